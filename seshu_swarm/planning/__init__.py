"""What a budget buys: model size, tokens, hours, learning rate and batch.

config      settings of `python -m seshu_swarm plan`
accelerators  peak rates, memory and names of GPUs
sizes       named sizes of byte-level Mamba models
arithmetic  the formulas, with their sources (pure)
planner     from means to offers, one for each size (pure)
measuring   what this machine achieves, by training for some seconds
showing     tables and the numbers of the report
run         the command

Knows no run, no swarm and no text.
"""
