"""Bench of `data build`: speed, memory, and what it finds of planted copies and contamination.

bench     the whole run: text made, builds measured, numbers by name
making    text to build from, of any size, and with copies and contamination planted in it
building  one build as a person starts it: its time, and the memory of all its processes
"""
