"""Bench of evaluation: scoring against the bare forward of the same shapes, and a proof's size.

bench   the whole run: model, texts, the table, numbers by name
work    the model of random weights, the built-in text, and what is timed
"""
