"""Measurements of this machine, by name. Each prints its tables and returns an outcome.

    config   settings of the command       run      one bench and its report
    fresh    a measurement in a process of its own
    outcome  what a bench returns          engine   speed and memory of the engine
    swarm    a whole swarm on loopback     links    links like home, in user space
    merge    the merge methods             scoring  what a mixture's score costs
    rounds   what a round takes, and what it refuses
    pipeline training through peers
    data     speed, memory and finds of `data build`
    newcomers  --help, packages, the first contribution
    evaluation  scores beside the engine's forward, and a proof
    dashboard   first paint, bytes and what open pages cost

Nothing is imported until a bench is run.
"""

# Name → (MODULE:FUNCTION, what it measures). The function takes the BenchConfig and returns an
# `outcome.Outcome`.
BENCHES: dict[str, tuple[str, str]] = {
    "engine": (
        "seshu_swarm.bench.engine.bench:run_bench",
        "Speed and memory of the engine against limits of the machine, others and a Transformer.",
    ),
    "hops": (
        "seshu_swarm.bench.swarm.hops:run",
        "What a hop adds to a token, beyond computing it, and bytes on the wire.",
    ),
    "sessions": (
        "seshu_swarm.bench.swarm.sessions:run",
        "Eight sessions against one; memory of a peer at rest; time until it is ready.",
    ),
    "failover": (
        "seshu_swarm.bench.swarm.failover:run",
        "What a session waits when its peers are killed or fall silent; requests under churn.",
    ),
    "merge": (
        "seshu_swarm.bench.merge.bench:run_bench",
        "Time and memory of each merge method, on 16 adapters of a model of 768 x 24.",
    ),
    "scoring": (
        "seshu_swarm.bench.scoring.bench:run_bench",
        "Time and memory of scoring a mixture of 8 adapters, beside the base alone.",
    ),
    "pipeline": (
        "seshu_swarm.bench.pipeline.bench:run",
        "Training through peers: against one process, under churn, on slow links.",
    ),
    "data": (
        "seshu_swarm.bench.data.bench:run_bench",
        "Speed and memory of data build; what it finds of planted copies and contamination.",
    ),
    "rounds": (
        "seshu_swarm.bench.rounds.bench:run_bench",
        "Worthless and honest adapters in rounds; a thousand donors' records in a DHT.",
    ),
    "evaluation": (
        "seshu_swarm.bench.evaluation.bench:run_bench",
        "Scoring against the bare forward of the same batches; the size of a proof.",
    ),
    "dashboard": (
        "seshu_swarm.bench.dashboard.bench:run_bench",
        "First paint, bytes and the server's cost of the dashboard, in the machine's chromium.",
    ),
    "help": (
        "seshu_swarm.bench.newcomers.helping:run_bench",
        "Seconds of every command's --help.",
    ),
    "install": (
        "seshu_swarm.bench.newcomers.install:run",
        "Megabytes and minutes at 10 Mbit/s from pip install to the first contribution.",
    ),
}
