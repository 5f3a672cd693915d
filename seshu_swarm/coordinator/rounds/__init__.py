"""Rounds: adapters in, verdicts out, at the end a checkpoint or a reason why there is none.

states     the states of a round (pure)
intake     donors hand in and ask for verdicts
gather     look up, read strictly, strip the names
fetching   bring files here, within the phase's deadline
screening  free riders, copies, one share for each identity (pure)
earlier    sketches of what was merged before
admitting  from adapters that were read to those that take part
candidates admitted once, without names, read again after a kill
repeating  whether an earlier round was told the same
jobs       what the scorer is handed in each phase
deciding   from a closed round to what becomes of it, one decision after another
holding    the loop that holds rounds
report     verdicts in the ledger, and a report of the round
"""
