"""Pipelined training, at the peer: a stage's replica or a trainer.

weights      a part of the model, its optimiser, the gradients of a step
"""
