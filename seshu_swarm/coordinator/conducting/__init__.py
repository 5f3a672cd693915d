"""Pipelined training: the plan, its conductor, its checkpoints. Rules: docs/pipeline.md.

training       in the life of a coordinator: before its rounds, as long as a plan is open
plan           what is settled once and told to all
kept           the plan in the ledger
journal        what is written down before it is acted upon
commits        a ledger of what went into the weights
course         the plan under way: conductor, members, what they say
roster         who takes part, whom to take for lost, whom to avoid
checking       words that cannot be true
patience       who lives and does not do what it is told
failing        averages that fail again and again
service        the conductor's end of STEPS
driving        the one task: begins steps, writes the books, tells members what to do
writing        what is written before anybody is told
waiting        what the next step waits for; groups that have lost their weights
progress       loss and speed, for people
checkpointing  when states are asked for
restoring      a group without weights goes on from stored ones
sparing        copies of groups that have one replica alone
collecting     fetching states from members, and giving stored ones out
stored         states on disk
deciding       from states to a checkpoint, and whether it becomes the head
decided        what became of checkpoints, in the ledger
card           the card of one
"""
