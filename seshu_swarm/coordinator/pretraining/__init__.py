"""`coordinator pretrain`: a base from running text.

command   settings, progress, resuming, and the ledger
training  from documents to a checkpoint
card      the card of that checkpoint
"""
