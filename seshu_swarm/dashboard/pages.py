"""Whole pages of one snapshot, each rendered and compressed once, however many look at it."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from seshu_swarm.dashboard.sections import Section, sections_of, templates
from seshu_swarm.dashboard.snapshot import Checkpoint, Round, Snapshot

HTML, JSON = "text/html; charset=utf-8", "application/json"
GZIP_LEVEL = 6


@dataclass(frozen=True)
class Body:
    """What is sent, plain and compressed; `tag` is an HTTP entity tag."""

    media_type: str
    data: bytes
    compressed: bytes
    tag: str

    @classmethod
    def of(cls, text: str, media_type: str = HTML) -> Body:
        data = text.encode("utf-8")
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        return cls(media_type, data, gzip.compress(data, GZIP_LEVEL, mtime=0), tag)


@dataclass(frozen=True)
class Pages:
    """Pages of `snapshot`. What is asked for is made then, and kept."""

    snapshot: Snapshot
    sections: Mapping[str, Section]
    _made: dict[str, Body] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot, before: Pages | None = None) -> Pages:
        """Parts that are as they were `before` are not compressed again."""
        sections = {section.name: section for section in sections_of(snapshot)}
        kept = {}
        for name, section in sections.items():
            made = before._made.get(name) if before else None
            if made and before and before.sections[name].fingerprint == section.fingerprint:
                kept[name] = made
        return cls(snapshot, sections, kept)

    def whole(self) -> Body:
        return self._page("/", "page", sections=tuple(self.sections.values()))

    def versions(self) -> Body:
        """Name of each part → its fingerprint, as JSON."""
        if "/versions" not in self._made:
            table = {name: section.fingerprint for name, section in self.sections.items()}
            table["at"] = f"{self.snapshot.taken_at:.0f}"
            self._made["/versions"] = Body.of(json.dumps(table), JSON)
        return self._made["/versions"]

    def part(self, name: str) -> Body | None:
        if name not in self.sections:
            return None
        if name not in self._made:
            self._made[name] = Body.of(self.sections[name].html)
        return self._made[name]

    def round(self, number: int) -> Body | None:
        """The page of one round, or None where there was none."""
        rounds = self.snapshot.rounds
        place = next((k for k, one in enumerate(rounds) if one.number == number), None)
        if place is None:
            return None
        return self._page(
            f"/rounds/{number}",
            "round",
            one=rounds[place],
            before=_number(rounds, place - 1),
            after=_number(rounds, place + 1),
        )

    def checkpoint(self, revision: str) -> Body | None:
        """The page of one checkpoint's files, or None where none are given out."""
        one = self.find(revision)
        return self._page(f"/checkpoints/{revision}", "checkpoint", one=one) if one else None

    def find(self, revision: str) -> Checkpoint | None:
        """The checkpoint whose files are given out; never one that was withdrawn."""
        wanted = (one for one in self.snapshot.checkpoints if one.revision == revision)
        return next((one for one in wanted if one.files and not one.withdrawn), None)

    def _page(self, path: str, template: str, **values: object) -> Body:
        if path not in self._made:
            found = templates().get_template(f"{template}.html.j2")
            text = found.render(snapshot=self.snapshot, run=self.snapshot.run, **values)
            self._made[path] = Body.of(text)
        return self._made[path]


def _number(rounds: tuple[Round, ...], place: int) -> int | None:
    return rounds[place].number if 0 <= place < len(rounds) else None
