"""One shape for every command line: parse first, import what is heavy afterwards.

A role lists its commands as a table; flags come from the command's dataclass. What a person did
wrong becomes one line on standard error and an exit code, never a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm import __version__
from seshu_swarm.errors import EXIT_INTERRUPTED, SeshuError
from seshu_swarm.program import config, log

PARENT_SECONDS = 0.5


@dataclass(frozen=True)
class Command:
    """`run` is "module:function"; it is imported only when the command was chosen.

    A name of two words, such as `data build`, is a command of a group.
    """

    name: str
    settings: type
    run: str
    sentence: str


def main(
    program: str,
    commands: Sequence[Command],
    *,
    about: str,
    default: str | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run one command; returns the exit code. `default` runs when no command is named."""
    # Read by OpenMP when torch is imported: threads that spin while they wait make a machine that
    # has other work to do ten times slower (measured: 411 against 7,250 tokens/s).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = with_default(sys.argv[1:] if arguments is None else arguments, default)
    names = {command.name for command in commands}
    parser = parser_of(program, commands, about)
    flags = vars(parser.parse_args(given))
    chosen = flags.pop("command", None)
    if chosen not in names:
        parser.print_help()
        return 2
    command = next(c for c in commands if c.name == chosen)
    try:
        return _run(command, f"{program.split()[-1]} {chosen}", flags)
    except SeshuError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def with_default(given: Sequence[str], default: str | None) -> list[str]:
    """The arguments, with the default command in front where flags come without a command."""
    flags_alone = bool(given) and given[0].startswith("-")
    if default and flags_alone and given[0] not in ("-h", "--help", "--version"):
        return [default, *given]
    return list(given)


def parser_of(
    program: str, commands: Sequence[Command], about: str = ""
) -> argparse.ArgumentParser:
    """The parser of a role's command line: one sub-command per command, its name in `command`."""
    parser = argparse.ArgumentParser(prog=program, description=about)
    parser.add_argument("--version", action="version", version=f"seshu-swarm {__version__}")
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    groups: dict[str, Any] = {}
    for command in commands:
        group, _, name = command.name.rpartition(" ")
        if group and group not in groups:
            several = [other.sentence for other in commands if other.name.startswith(f"{group} ")]
            one = choices.add_parser(group, help=" ".join(several), allow_abbrev=False)
            groups[group] = one.add_subparsers(required=True, metavar="COMMAND", title="commands")
        sub = groups.get(group, choices).add_parser(
            name, help=command.sentence, description=command.sentence, allow_abbrev=False
        )
        # After the group has put its own name there.
        sub.set_defaults(command=command.name)
        config.add_flags(sub, command.settings)
    return parser


def _run(command: Command, role: str, flags: dict[str, Any]) -> int:
    toml = flags.pop("config")
    if flags.pop("print_config"):
        print(config.to_toml(command.settings))
        return 0
    settings: Any = config.load(command.settings, flags, Path(toml) if toml else None)
    log.configure(role, settings.log_format, settings.verbose)
    if settings.end_with_parent:
        watch = threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True)
        watch.start()
    module, _, function = command.run.partition(":")
    entry = getattr(importlib.import_module(module), function)
    return int(entry(settings))


def _end_with_parent(parent: int) -> None:
    """Ask this process to end once `parent` is no longer its parent, however that one died."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
