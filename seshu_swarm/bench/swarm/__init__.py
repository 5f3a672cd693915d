"""Benches of a whole swarm: real processes on loopback, one torch thread each, one client here.

The benches:

    hops      what a hop adds to a token            sessions  eight sessions against one; a peer at rest
    failover  what the loss of a peer costs         churn     requests while peers come and go
    drains    peers that leave or choose other blocks under live sessions
    rolls     new revisions under live sessions
    calm      links like home without any fault     stalls    faults and what they cost (pure)

What they stand on:

    playing   one loop for a bench: progress, its end, a swarm that ends with it
    village   coordinator, hosts and proxies as processes
    model     a random model whose text wanders     user      the client in this process, metered
    talk      one session, token by token           summary   quantiles and counts (pure)
    live      sessions that go on and on            publishing  a new revision of the run
    memory    what a process and its daemon hold    tables    what people see
"""
