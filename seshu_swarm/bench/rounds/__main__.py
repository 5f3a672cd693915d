"""`python -m seshu_swarm.bench.rounds`: one process of donors."""

import sys

from seshu_swarm.bench.rounds.config import CrowdConfig
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

COMMANDS = (
    Command(
        "crowd",
        CrowdConfig,
        "seshu_swarm.bench.rounds.announcing:run",
        "Make donors, wait for SIGUSR1, announce an adapter of each (default).",
    ),
)


def main() -> int:
    about = "Donors of a run, for the benches."
    return cli.main("python -m seshu_swarm.bench.rounds", COMMANDS, about=about, default="crowd")


if __name__ == "__main__":
    sys.exit(main())
