"""`python -m seshu_swarm.peer`: donate a machine. Parses first, imports what is heavy after."""

import sys

from seshu_swarm.peer.config import (
    AdaptersConfig,
    AutoConfig,
    FinetuneConfig,
    HostConfig,
    StatusConfig,
    TrainConfig,
)
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

COMMANDS = (
    Command(
        "auto", AutoConfig, "seshu_swarm.peer.auto:run", "Do what the swarm lacks most (default)."
    ),
    Command(
        "host",
        HostConfig,
        "seshu_swarm.peer.training.holding:run",
        "Host a span of blocks, and train it where the run pretrains.",
    ),
    Command(
        "finetune",
        FinetuneConfig,
        "seshu_swarm.peer.donating.donor:run",
        "Train a LoRA adapter and offer it.",
    ),
    Command(
        "train",
        TrainConfig,
        "seshu_swarm.peer.training.train:run",
        "Feed text to a run that is trained through its peers.",
    ),
    Command(
        "adapters",
        AdaptersConfig,
        "seshu_swarm.peer.donating.shelf:run",
        "List task adapters of a run, or fetch one.",
    ),
    Command(
        "status", StatusConfig, "seshu_swarm.peer.status:run", "Show what this machine's peer does."
    ),
)


def main() -> int:
    about = "Donate this machine to a Seshu swarm. Without a command: what the swarm lacks most."
    program = "python -m seshu_swarm.peer"
    return cli.main(program, COMMANDS, about=about, default="auto")


if __name__ == "__main__":
    sys.exit(main())
