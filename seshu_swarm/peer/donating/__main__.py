"""`python -m seshu_swarm.peer.donating push FOLDER`, for the donor to start."""

import sys

from seshu_swarm.peer.config import PushConfig
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

ROLE = "seshu_swarm.peer.donating"
COMMANDS = (Command("push", PushConfig, f"{ROLE}.uploading:run", "Push one adapter to the Hub."),)

if __name__ == "__main__":
    sys.exit(cli.main(f"python -m {ROLE}", COMMANDS, about="Push adapters to the Hub."))
