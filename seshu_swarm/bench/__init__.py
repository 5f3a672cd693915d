"""Measurements of this machine, by name. Each prints its tables and returns an outcome.

    config   settings of the command       run      one bench and its report
    outcome  what a bench returns          engine   speed and memory of the engine

Nothing is imported until a bench is run.
"""

# Name → (MODULE:FUNCTION, what it measures). The function returns an `outcome.Outcome`.
BENCHES: dict[str, tuple[str, str]] = {
    "engine": (
        "seshu_swarm.bench.engine.bench:run",
        "Speed and memory of the engine against limits of the machine, others and a Transformer.",
    ),
}
