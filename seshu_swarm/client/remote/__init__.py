"""The model whose blocks live on the swarm's peers.

model      RemoteModel: the ends here, the blocks out there
token_session  a conversation in tokens, which goes on with the next revision
turns      a conversation as token ids (pure)
readout    logits of all sessions of a turn   sampling   the next token from logits
gradients  forward and backward through the blocks without a session
differentiable  the same as one operation of autograd
tasks      several coroutines at once
"""
