"""Numbers: bits per byte, paired comparisons, floors, proofs, and the rule that accepts a merge.

    bits     negative log likelihood of windows, in nats; bits per byte
    paired   two models on the same windows: difference, bootstrap error, sign test
    accept   the rule: gain over languages' mean, no language harmed, alpha spent per reading

`python -m seshu_swarm evaluate`:

    config      its settings                      command   what it does
    texts       held-out text by language         columns   a model's scores, intervals, means
    evaluation  all columns on the same texts     models    what can be scored: ours, and others
    floors      byte n-gram, PPMd, xz             showing   table, JSON, picture
    proving     text coded with the model,        tasks     choices and answers, through
                and decoded                                 lm-evaluation-harness

Knows no candidate, no round and no role.
"""
