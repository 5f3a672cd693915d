"""`python -m seshu_swarm.peer.donating push FOLDER`, for the donor to start."""

import sys

from seshu_swarm import cli
from seshu_swarm.cli import Command
from seshu_swarm.peer.config import PushConfig

ROLE = "seshu_swarm.peer.donating"
COMMANDS = (Command("push", PushConfig, f"{ROLE}.uploading:run", "Push one adapter to the Hub."),)

if __name__ == "__main__":
    sys.exit(cli.main(f"python -m {ROLE}", COMMANDS, about="Push adapters to the Hub."))
