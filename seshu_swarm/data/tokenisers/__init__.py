"""Tokenisers behind one interface (`data.tokeniser.Tokeniser`): bytes, and trained ones.

    config    settings of the command     pieces     how text is cut before pieces are learned
    texts     what is trained on          training   BPE and unigram pieces from text
    trained   text to ids by pieces       choosing   a tokeniser by name or folder
    scoring   bits per native byte        fertility  bytes per token, by language
    run       the command

Every tokeniser here gives back every text exactly. Knows no model, no role and no network.
"""
