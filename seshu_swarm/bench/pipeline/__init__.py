"""`bench pipeline`: training through peers, in real processes, held against training in one process.

    bench       the sections, and which of them are run
    equality    losses of every step against those of one process
    wire        the final loss with fewer bits on the wire
    throughput  tokens per second against two processes that train alone, and where the time goes
    churn       replicas that are killed and come back
    joining     a replica that comes in mid-run
    links       links like home

What they stand on:

    sizes       model and plan of a measurement    town      coordinator, stages and trainer as processes
    heard       what their events say (pure)       forks     children that are forked, not started anew
    alone       training in one process            forking   the process that forks
    singles     such processes, side by side
    config      settings of the two processes that `python -m seshu_swarm.bench.pipeline` is
"""
