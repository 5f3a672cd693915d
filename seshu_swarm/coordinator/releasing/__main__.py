"""`python -m seshu_swarm.coordinator.releasing push FOLDER`, for the coordinator to start."""

import sys

from seshu_swarm.coordinator.config import PushConfig
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

ROLE = "seshu_swarm.coordinator.releasing"
COMMANDS = (Command("push", PushConfig, f"{ROLE}.hub:run", "Push one release to the Hub."),)

if __name__ == "__main__":
    sys.exit(cli.main(f"python -m {ROLE}", COMMANDS, about="Push releases to the Hub."))
