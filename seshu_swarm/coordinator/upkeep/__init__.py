"""What a maintainer does between rounds, and for the day the machine is lost.

config   settings of these commands
backup   `backup`: key, ledger, hold-outs and text in one file, also while `run` works
restore  `restore`: a run folder from that file, checked first
needed   which packages a run cannot do without
"""
