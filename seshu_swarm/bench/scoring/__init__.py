"""Bench of scoring: time and memory of a mixture of adapters, beside the base alone.

bench   the whole run: a checkpoint, a fresh process, the table, numbers by name
work    the model, its adapters and the windows, all of random numbers
child   the measurement in a process whose memory no other one has touched
alone   what that process does
"""
