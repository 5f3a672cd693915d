"""`python -m seshu_swarm.bench.links`: the proxies in a process of their own."""

import sys

from seshu_swarm.bench.links.config import LinksConfig
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

COMMANDS = (
    Command(
        "proxy",
        LinksConfig,
        "seshu_swarm.bench.links.proxy:run",
        "Carry bytes to peers as a line at home would (default).",
    ),
)


def main() -> int:
    about = "Links like home, in user space, for the benches."
    return cli.main("python -m seshu_swarm.bench.links", COMMANDS, about=about, default="proxy")


if __name__ == "__main__":
    sys.exit(main())
