"""What went into the weights: a line for each average that a group is told to make, written before it is told.

    {"group": 0, "version": [3, 7], "round": 9, "claims": {MEMBER: {TRAINER: [12, 13]}}}

`version` is that of the weights before it, so this one made weights (4, 9). An average may fail and be
told again in a later round: which one counts is named by the version from which the next step begins.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seshu_swarm.errors import from_os_error
from seshu_swarm.pipeline.group import StageGroup, StagePhase
from seshu_swarm.pipeline.messages import Version
from seshu_swarm.pipeline.protocol.fields import of_ids, of_version

FILE = "commits.jsonl"


class Commits:
    """Of one plan, in its folder; the file only grows."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._written: dict[int, tuple[Version, int]] = {}

    def new(self, groups: Sequence[StageGroup]) -> list[dict[str, Any]]:
        """Those that are not written yet."""
        return [
            {
                "group": place,
                "version": of_version(group.version),
                "round": group.round,
                "claims": {name: of_ids(ids) for name, ids in sorted(group.claims.items())},
            }
            for place, group in enumerate(groups)
            if group.phase is StagePhase.COMMITTING
            and self._written.get(place) != (group.version, group.round)
        ]

    def write(self, found: Sequence[dict[str, Any]]) -> None:
        """At the end of the file."""
        if not found:
            return
        lines = "".join(json.dumps(one) + "\n" for one in found)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(lines)
        except OSError as error:
            raise from_os_error(error, str(self._path)) from error
        for one in found:
            self._written[one["group"]] = Version(*one["version"]), one["round"]
