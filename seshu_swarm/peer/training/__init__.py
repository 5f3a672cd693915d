"""Pipelined training, at the peer: a stage's replica or a trainer.

weights      a part of the model, its optimiser, the gradients of a step
passes       a stage's forward and backward, and what is kept in between
"""
