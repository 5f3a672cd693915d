"""What the ledger says, and whether it is true.

status     `status`: the run, its line, its gate set, every round
training   the plan of pipelined training, in `status`
round      `round N`: verdicts and numbers of one round
verifying  `verify N`: merge again, compare digests
"""
