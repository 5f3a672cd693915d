"""The engine: Mamba blocks that any peer can run alone, continue and differentiate.

    shape        sizes of a model; reads and writes a transformers config.json (no torch)
    reference    the float64 loop every test compares with
    scan         selective scan: differentiable in everything, states included
    conv         causal depthwise convolution + SiLU, the same properties
    norm         RMS norm
    kernels      what computes these three, chosen by device
    mixer        the Mamba mixer, unfused, so that LoRA wraps its projections
    block        norm, mixer, residual
    state        the recurrent state of a span for one session, and its bytes
    decoding     one token through a span's blocks at once, where that is possible
    span_module  blocks [start, end) of a model
    ends         embeddings, final norm and head
    whole        ends and all blocks in one process, without transformers
    int8_linear  projections in int8: weights rounded once, activations while they pass
    cache        states of all blocks between two calls of the transformers class
    checks       ids and residual streams from callers, refused by name
    padding      an attention mask to rows that begin at their first token
    pretrained   configuration, loading and saving of the transformers classes
    backbone, model   the transformers classes around the same blocks (with pretrained, the only
                 files that import transformers)

Everything is float32 unless a test asks for float64. Between spans travels one tensor, the
residual stream `(batch, length, d_model)`. Continuing from a state equals one pass.
"""
