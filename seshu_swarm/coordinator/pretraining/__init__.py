"""`coordinator pretrain`: a base from running text, and more training between rounds.

command     settings, progress, resuming, and the ledger
text        the run's running text
training    from documents to a checkpoint
continuing  new text for a run that has a head, and the gate for what comes of it
card        the card of that checkpoint
"""
