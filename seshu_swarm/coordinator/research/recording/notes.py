"""What a recording has done already, and how each adapter was made: one JSON file, written whole.

It stays in the finished set: whoever tries policies on it learns what was honest and what was not.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seshu_swarm import packages
from seshu_swarm.coordinator.research.recording.crowd import Kind, Member
from seshu_swarm.errors import UsageError

NOTES_FILE = "recording.json"


class Notes:
    """Members that are done, by name. Raises UsageError where the folder has other settings."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._path, self._settings = folder / NOTES_FILE, settings
        self.members: dict[str, dict[str, Any]] = {}
        if not self._path.exists():
            return
        table = json.loads(self._path.read_bytes())
        if table["settings"] != settings:
            raise UsageError(
                f"{folder} was begun with {table['settings']}",
                rule="a recording goes on with the settings that it was begun with",
                way_out="give those, or another --out",
            )
        self.members = table["members"]

    def add(
        self, member: Member, *, digest: str | None, source: str | None = None, why: str = ""
    ) -> None:
        """`digest` None: no adapter came of it, and `why`."""
        facts = asdict(member) | {"digest": digest, "source": source, "why": why}
        self.members[member.name] = facts
        self.write()

    def write(self) -> None:
        table = {"settings": self._settings, "members": self.members}
        packages.write_whole(self._path, json.dumps(table, indent=1).encode())

    def handed_in(self, round_number: int, kind: Kind | None = None) -> list[dict[str, Any]]:
        """Adapters of a round, by the name of their members."""
        return [
            facts
            for _, facts in sorted(self.members.items())
            if facts["round"] == round_number
            and facts["digest"] is not None
            and (kind is None or facts["kind"] == kind)
        ]
