"""Bench of the merge methods: time and memory of each, on adapters of a model's real shapes.

bench     the whole run: a fresh process for each method, the table, numbers by name
sizes     which model and how many adapters
child     one method measured in a process whose memory no other measurement has touched
alone     what that process does
mergekit  the same merge by mergekit, where it can be imported
"""
