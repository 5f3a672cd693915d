"""Measurements of this machine, by name. Each prints a table and returns its numbers by name.

    config   settings of the command       run      one bench, its table and its report
    engine   training speed of the engine

Nothing is imported until a bench is run.
"""

# Name → (MODULE:FUNCTION, what it measures).
BENCHES: dict[str, tuple[str, str]] = {
    "engine": (
        "seshu_swarm.bench.engine:run",
        "Training speed of a small Mamba with our scan, and against stock transformers.",
    ),
}
