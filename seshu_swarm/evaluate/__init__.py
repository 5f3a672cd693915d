"""Numbers: bits per byte, paired comparisons and the rule that accepts a merge.

    bits     negative log likelihood of windows, in nats; bits per byte
    paired   two models on the same windows: difference, bootstrap error, sign test
    accept   the rule: gain over languages' mean, no language harmed, alpha spent per reading

Knows no candidate and no round.
"""
