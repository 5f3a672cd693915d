"""Pipelined training, pure: whose gradients make a step, whatever fails; no sockets, tensors or clocks.

    messages     what conductor, trainers and replicas say to one another
    step         a trainer's microbatches on their way through the stages and back
    ledger       what one replica has counted
    group        the replicas of a stage: from an open list to one commit
    conductor    one global step after another, over all stages
    routing      which replica is next: interleaved weighted round-robin
    protocol/    the same as messages of streams
    eight_bit    activations and gradients as blocks of 8 bits
    tensors      the same, or another type, as the plan says (these two alone have tensors)

The rules and why they hold: docs/pipeline.md.
"""
