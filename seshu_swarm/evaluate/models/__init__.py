"""Models that are scored: anything causal with ids, and logits of every position.

    base      what a scored model is: ids of a text, logits of ids
    opening   a folder, by what lies in it
    ours      checkpoints of the Mamba layout, in our engine
    vocabulary  ids of texts: bytes, or of a tokeniser
    hugging   any other causal language model of transformers, on this machine
    scoring   nats of each text

Knows no languages and no floors.
"""
