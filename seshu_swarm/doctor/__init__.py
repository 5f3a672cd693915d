"""`python -m seshu_swarm doctor`: whether this machine is fit for the swarm, and what to do where not.

    findings     one line of the answer, and the exit code (pure)
    software     Python, torch, kernels, the p2p daemon
    machine      memory, disk, open files, ports
    entrances    the addresses of the join link, one by one
    swarm        from inside: the run, the clock, how others reach this peer and what it costs
    hub          the token of the Hugging Face Hub
    config       settings (pure)                       showing      the table
    run          all checks in order

Each check measures facts and judges them apart: what is said of them is a pure function.
"""
