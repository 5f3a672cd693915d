"""What a maintainer does between rounds, and for the day the machine is lost.

config           settings of these commands
revoking         `revoke`: the next revision, without an adapter that was merged
finding          which adapter a person means
replaying        merges since the training boundary, made again without some adapter
gating           a checkpoint that no round made, against another, on the gate set
moving           the head moves without a round, and the round that was open ends
revocation_card  the card of a revocation, and what is not claimed
revealing        `reveal`: retired held-out sets, for everyone to check
drawing          new held-out sets from text that nobody has seen
backup           `backup`: key, ledger, hold-outs and text in one file, also while `run` works
restore          `restore`: a run folder from that file, checked first
needed           which packages a run cannot do without
"""
