"""Merge methods: each a pure function of ΔW's and weights, one per file; float64 throughout.

    linear(deltas, weights)                             weighted mean
    uniform_soup(deltas, weights)                       plain mean
    greedy_soup(deltas, weights, score=…)               mean of those that do it no harm
    lorahub(deltas, weights, score=…)                   weights searched without gradients
    task_arithmetic(deltas, weights)                    weighted sum
    norm_clipped_mean(deltas, weights, max_norm=…)      mean of ΔW's of bounded norm
    centred_clip(deltas, weights, radius=…, …)          a centre that nobody pulls far
    ties(deltas, weights, density=…)                    trim, elect a sign, mean of who agrees
    dare_linear / dare_ties(…, density=…, seed=…)       drop and rescale, then sum or TIES
    fedit(deltas, weights)                              A and B averaged apart, a baseline
    outer_nesterov(merged, velocity, …)                 momentum from round to round

`deltas` is in the order of candidates' ids, so that a merge can be replayed to the same bits.
`dare` holds both of its methods; `clip` bounds norms by their median; `gram` has norms and inner
products of whole ΔW's; `election` sums masked entries that agree on a sign; `checks` refuses wrong
arguments; `one_weight` cuts a ΔW down to one matrix. `registry` lists the methods; `mixture` names
a choice of candidates, shares, λ and method; `apply` adds a ΔW to the base and rounds once.
"""
