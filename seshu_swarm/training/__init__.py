"""Training on one machine, for both roles that train.

    loop      AdamW, warm-up and cosine, a budget in steps and in seconds
    state     what a killed training goes on from
    schedule  learning rate and budget (pure)
    feeding   microbatches by number
    threads   how many threads, measured

Knows no peers: training through them is `pipeline/`, `exchange/` and the roles.
"""
