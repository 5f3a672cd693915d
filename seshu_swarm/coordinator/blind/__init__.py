"""Blind: knows candidates as random ids and tensors; no donor, no network, no ledger.

judging    from candidates to a mixture, a gate and a final word
held_out   a held-out set as windows
scoring    what a ΔW makes of the model, on held-out windows
search     the best mixture on the tuning split (pure)
selecting  who is merged, and why (pure)
"""
