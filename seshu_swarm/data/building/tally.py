"""Rows in and out, with the reason for each that went: the books of a build. Pure but for logging.

A *reason* is a short name such as `not_utf8`. Of each, the first few places are kept as examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_EXAMPLES = 3
SHOWN_CHARACTERS = 120


@dataclass(frozen=True)
class Bad:
    """A row that is left out: why, where it is, and what was seen there."""

    reason: str
    place: str
    what: str = ""


@dataclass
class Tally:
    """`read` and `kept` count rows by language; `out` by language and reason ("-": not known)."""

    read: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    kept_bytes: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    out: dict[str, Counter[str]] = field(default_factory=dict)
    lengths: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, bad: Bad, language: str = "-") -> None:
        self.out.setdefault(language, Counter())[bad.reason] += 1
        found = self.examples.setdefault(bad.reason, [])
        if len(found) < MAX_EXAMPLES:
            found.append(f"{bad.place}: {bad.what}"[:SHOWN_CHARACTERS].rstrip(": "))

    def keep(self, language: str, size_bytes: int) -> None:
        self.kept[language] += 1
        self.kept_bytes[language] += size_bytes
        # Bins by powers of two: 2^k <= size < 2^(k+1).
        bin_of = str(1 << (size_bytes.bit_length() - 1)) if size_bytes else "0"
        self.lengths.setdefault(language, Counter())[bin_of] += 1

    def to_json(self) -> dict[str, Any]:
        return {
            "read": dict(sorted(self.read.items())),
            "kept": dict(sorted(self.kept.items())),
            "kept_bytes": dict(sorted(self.kept_bytes.items())),
            "flags": dict(sorted(self.flags.items())),
            "out": {k: dict(sorted(v.items())) for k, v in sorted(self.out.items())},
            "lengths": {k: dict(sorted(v.items())) for k, v in sorted(self.lengths.items())},
            "examples": dict(sorted(self.examples.items())),
        }

    @classmethod
    def of_json(cls, table: dict[str, Any]) -> Tally:
        return cls(
            read=Counter(table["read"]),
            kept=Counter(table["kept"]),
            kept_bytes=Counter(table["kept_bytes"]),
            flags=Counter(table["flags"]),
            out={k: Counter(v) for k, v in table["out"].items()},
            lengths={k: Counter(v) for k, v in table["lengths"].items()},
            examples={k: list(v) for k, v in table["examples"].items()},
        )


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum, with the first examples in the order given."""
    whole = Tally()
    for tally in tallies:
        whole.read += tally.read
        whole.kept += tally.kept
        whole.kept_bytes += tally.kept_bytes
        whole.flags += tally.flags
        for mine, theirs in ((whole.out, tally.out), (whole.lengths, tally.lengths)):
            for language, counts in theirs.items():
                mine.setdefault(language, Counter()).update(counts)
        for reason, found in tally.examples.items():
            mine_of = whole.examples.setdefault(reason, [])
            mine_of += found[: MAX_EXAMPLES - len(mine_of)]
    return whole
