"""`python -m seshu_swarm.client`: use a swarm. Parses first, imports what is heavy after."""

import sys

from seshu_swarm.client.config import ChatConfig, GenerateConfig, ServeConfig, StatusConfig
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command

COMMANDS = (
    Command(
        "generate",
        GenerateConfig,
        "seshu_swarm.client.terminal.generate:run",
        "Generate text across the swarm.",
    ),
    Command(
        "chat",
        ChatConfig,
        "seshu_swarm.client.terminal.chat:run",
        "Talk with the model in the terminal.",
    ),
    Command(
        "serve",
        ServeConfig,
        "seshu_swarm.client.gateway.serve:run",
        "Serve the model as an HTTP API that OpenAI's clients speak.",
    ),
    Command(
        "status",
        StatusConfig,
        "seshu_swarm.client.terminal.status:run",
        "Show who hosts which blocks.",
    ),
)


def main() -> int:
    about = "Use the model of a Seshu swarm."
    return cli.main("python -m seshu_swarm.client", COMMANDS, about=about)


if __name__ == "__main__":
    sys.exit(main())
