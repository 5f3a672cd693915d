"""`python -m seshu_swarm.bench.users`: one process of users."""

import sys

from seshu_swarm.bench.users.config import UsersConfig
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

COMMANDS = (
    Command(
        "talk",
        UsersConfig,
        "seshu_swarm.bench.users.talking:run",
        "Open sessions, wait for SIGUSR1, generate (default).",
    ),
)


def main() -> int:
    about = "Users of a swarm, for the benches."
    return cli.main("python -m seshu_swarm.bench.users", COMMANDS, about=about, default="talk")


if __name__ == "__main__":
    sys.exit(main())
