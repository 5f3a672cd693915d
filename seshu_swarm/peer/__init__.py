"""PEER: a donor's machine. It does what the swarm lacks most.

__main__     the command line                    config      settings of every command
auto         look what is lacking, and do it     roles       what the swarm lacks most (pure)
guest        limits of the owner's machine       lending     join, work within them, leave
host         life of a hosting peer              choosing    which blocks it hosts
served       blocks of one revision, loaded
serving      the streams of sessions             hosted      the parts held here, budgets
admission    opening a part              keeping     donors' adapters, until they are judged
engine       computes what waits, in batches
rebalancing  whether to host other blocks (pure)  moving  when to do it
donating/    from rows to a verdict              status      what the peer shows its owner
screen       the same, live on a terminal        panel       how it looks (pure)
seen         what is known of this peer now
gradients    the stream GRADIENTS: forward and backward without a session
memory       freed memory, back to the machine
training/    pipelined training: a stage's replica, or a trainer
"""
