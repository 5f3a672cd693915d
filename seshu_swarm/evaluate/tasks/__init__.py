"""Tasks through lm-evaluation-harness, from local files, with the model's own ids.

    items    a .jsonl file as a task: choices, or an answer to be generated; how it is asked
    answers  what was generated against what was expected
    harness  any scored model as the harness's LM
    running  files to scores

The harness's own HFLM would be wrong here: ByT5's tokeniser ends the context with an end token, and
the continuation loses its first byte. lm_eval is an optional extra and only imported in `harness` and
`running`.
"""
