"""Bench of the engine: every engine on the same weights, against what the machine can do at best.

bench        the whole run: items in order, progress, tables
sizes        which models, batches and lengths
measuring    best times of calls that take turns; growth of a process's memory
rates        how fast this machine multiplies, exponentiates and reads
floors       the least time that work can take at these rates (pure)
engines      ours, stock transformers and mambapy, behind one surface
transformer  a Transformer of the same size, on torch's attention
calls        a training step, a prefill and a decoding step as functions to time
child        one engine measured in a fresh process
alone        what that process does
items        what is measured, one item of progress at a time
book         the rows measured so far
results      rows to numbers by name (pure)
tables       what people see
"""
