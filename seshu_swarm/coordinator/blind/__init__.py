"""Blind: knows candidates as random ids and tensors; no donor, no network, no ledger.

asking     the coordinator's side: start the scorer, wait for its result
job        what it is handed, in a folder of its own
child      the scorer, a process of its own
results    what it says, as JSON and back
judging    one split each: choose a mixture, decide at the gate, conclude
base       the base in memory, changed in place and read again from its files
memory     freed memory goes back to the system at once
scoring    what a ΔW makes of the model, on held-out windows
held_out   a held-out set as windows
search     the best mixture on the tuning split (pure)
selecting  who is merged, and why (pure)
"""
