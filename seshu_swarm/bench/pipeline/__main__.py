"""`python -m seshu_swarm.bench.pipeline`: one process of the bench."""

import sys

from seshu_swarm.bench.pipeline.config import AloneConfig, ForkingConfig
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

COMMANDS = (
    Command(
        "alone",
        AloneConfig,
        "seshu_swarm.bench.pipeline.alone:run",
        "Train the whole model in one process.",
    ),
    Command(
        "forking",
        ForkingConfig,
        "seshu_swarm.bench.pipeline.forking:run",
        "Import a program once, and fork for each of its starts.",
    ),
)


def main() -> int:
    return cli.main("python -m seshu_swarm.bench.pipeline", COMMANDS, about="For bench pipeline.")


if __name__ == "__main__":
    sys.exit(main())
