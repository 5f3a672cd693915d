"""What the ledger says, and whether it is true.

status     `status`: the run, its line, its gate set, every round
round      `round N`: verdicts and numbers of one round
verifying  `verify N`: merge again, compare digests
"""
