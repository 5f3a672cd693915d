"""Pipelined training, at the peer: a stage's replica or a trainer.

weights      a part of the model, its optimiser, the gradients of a step
member       of a group: it obeys the conductor's orders
enlisting    the stream STEPS, at the member
averaging    the stream AVERAGES: the exact average of a group's gradients
gathering    one average, as one member sees it
shards       who averages which part of the gradients, and how (pure)
states       the stream STATES: weights and moments, given and fetched
ends         what a trainer computes itself, and what it counted of it
train        `peer train`: lives of a trainer, within its owner's limits
text         its text as microbatches by number
own_step     one step at one trainer: its microbatches, and the word on them
trainer      one step after another, several microbatches in flight
calls        a trainer's passes through replicas: who is asked, for how long, who is avoided
meter        what these cost: bytes and seconds
casting      in which type products of matrices are computed
passes       a stage's forward and backward, and what is kept in between
stage_service  the stream PASSES: whose pass it is, whether it counts
stage        life of a stage's replica, beside the hosting peer
holding      `peer host`: hosting, and a stage of each plan
"""
