"""The chat page of the gateway: what a person sees at `/`. Only `gateway/app` knows of it.

serving     its files, and their strict headers
about       what the page must know of the run, the model and its limits
languages   names of languages in their own script, direction, first questions (pure)
static/     the page itself: plain HTML, CSS and ES modules of our own, no other host is asked
"""
