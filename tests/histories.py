"""Histories of a simulator, each made from its seed alone, and which of them a test runs.

A simulator's module tells one history when it is run with a seed: `check` names that command.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from tests.sessions.network import WrongError


class History(Protocol):
    """`say` hears what happens. `run` raises WrongError where a promise is broken."""

    def __init__(self, seed: int, say: Callable[[str], None] | None = None) -> None: ...

    def run(self) -> None: ...


def seeds(usual: int) -> range:
    """As many as SESHU_HISTORIES says, else `usual`, from SESHU_FIRST_HISTORY on."""
    first = int(os.environ.get("SESHU_FIRST_HISTORY", "0"))
    return range(first, first + int(os.environ.get("SESHU_HISTORIES", str(usual))))


def check(kind: type[History], seed: int) -> None:
    """Raises WrongError that names the seed and how to replay it."""
    try:
        kind(seed).run()
    except Exception as error:
        raise WrongError(
            f"history {seed}: {type(error).__name__}: {error}\n"
            f"    replay: python -m {kind.__module__} {seed}"
        ) from error


def story_of(kind: type[History], seed: int) -> list[str]:
    """All that happens in a history, in order."""
    story: list[str] = []
    kind(seed, story.append).run()
    return story
