"""Merge methods: each a pure function of ΔW's and weights, one per file.

    linear(deltas, weights)                     weighted mean
    task_arithmetic(deltas, weights)            weighted sum
    ties(deltas, weights, density=…)            trim, elect a sign, mean of those that agree
    dare_linear / dare_ties(…, density=…, seed=…)   drop and rescale, then sum or TIES

`deltas` is in the order of candidates' ids, so that a merge can be replayed to the same bits.
`dare` holds both of its methods; `clip` bounds norms by their median; `stacking` lines matrices up.
`registry` lists them; `mixture` names a choice of candidates, shares, λ and method; `apply` adds a
ΔW to the base and rounds once.
"""
