"""A policy: a Python file with `def policy(round)`, and perhaps `def accept(gate)`.

It is the researcher's own file on the researcher's own machine, and runs as such. Whatever goes
wrong in it becomes one line that names the line of the file.
"""

from __future__ import annotations

import runpy
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.research.seeing import Gate, PolicyRound, checked
from seshu_swarm.errors import SeshuError, UsageError, shown

Result = TypeVar("Result")
WAY_OUT = "docs/policies.md has examples"


@dataclass(frozen=True)
class Policy:
    """`name` is the file's, without its suffix."""

    path: Path
    _policy: Callable[[PolicyRound], Any]
    _accept: Callable[[Gate], Any] | None

    @property
    def name(self) -> str:
        return self.path.stem

    def choose(self, seen: PolicyRound) -> Mixture | None:
        """The mixture to publish, or None. Raises UsageError."""
        found = _guarded(self.path, lambda: self._policy(seen))
        return _guarded(self.path, lambda: checked(found, seen.ids))

    def accept(self, gate: Gate) -> bool:
        """The gate's word: the policy's where it has one, else the coordinator's own."""
        if self._accept is None:
            return gate.default.accepted
        accept = self._accept
        found = _guarded(self.path, lambda: accept(gate))
        if not isinstance(found, bool):
            raise UsageError(f"{self.path}: accept gave {shown(found)}", rule="True or False")
        return found


def load_policy(path: Path) -> Policy:
    """Raises UsageError for a file that cannot be read, run, or has no policy."""
    if not path.is_file():
        raise UsageError(f"--policy {path}: no such file", way_out=WAY_OUT)
    names = _guarded(path, lambda: runpy.run_path(str(path)))
    policy, accept = names.get("policy"), names.get("accept")
    if not callable(policy) or not (accept is None or callable(accept)):
        raise UsageError(
            f"--policy {path} has no function `policy`",
            rule="def policy(round): …, and perhaps def accept(gate): …",
            way_out=WAY_OUT,
        )
    return Policy(path, policy, accept)


def _guarded(path: Path, call: Callable[[], Result]) -> Result:
    try:
        return call()
    except SeshuError as error:
        line = _line_of(path, error)
        raise UsageError(
            f"{path}{line}: {error.what}", rule=error.rule, way_out=error.way_out
        ) from None
    except Exception as error:
        # A researcher's code may raise anything; a person is to see where, and no traceback.
        raise UsageError(
            f"{path}{_line_of(path, error)}: {type(error).__name__}: {error}"[:500], way_out=WAY_OUT
        ) from None


def _line_of(path: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f" line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f" line {lines[-1]}" if lines else ""
