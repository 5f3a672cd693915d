"""Instruction data from what people have: tables, talks and pairs, as rows and running text.

    config    settings of the command       chat         talks as one row per answer
    wordings  how to ask for a translation  alternating  sentences of two languages in turn
    run       the command

Alpaca's shape (instruction, input, output) is a row already; files and column maps are `own_rows`.
Loss is on answers alone, as `prompts` has it. Knows no role and no model.
"""
