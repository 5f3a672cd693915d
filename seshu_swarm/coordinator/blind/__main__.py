"""`python -m seshu_swarm.coordinator.blind score FOLDER`: the scorer, for the coordinator to start."""

import sys

from seshu_swarm.coordinator.config import ScoreConfig
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

ROLE = "seshu_swarm.coordinator.blind"
COMMANDS = (Command("score", ScoreConfig, f"{ROLE}.child:run", "Carry out one scoring job."),)

if __name__ == "__main__":
    sys.exit(cli.main(f"python -m {ROLE}", COMMANDS, about="Score candidates without names."))
