"""What a build kept of each language, and why the rest went, as its books say.

Knows the form of `books.json` (`building/manifest`) and counts nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seshu_swarm.data.building.manifest import BOOKS
from seshu_swarm.errors import DataError, from_os_error


@dataclass(frozen=True)
class Kept:
    """Rows of one language: read, and left after filters and after duplicates."""

    read: int
    filtered: int
    unique: int
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Rows left of the rows read; a long row may have become several parts."""
        return self.unique / self.read if self.read else 0.0


def kept_of(folder: Path) -> dict[str, Kept]:
    """By language, sorted; nothing where the folder is no build's. Raises DataError."""
    path = folder / BOOKS
    if not path.is_file():
        return {}
    try:
        books = json.loads(path.read_text(encoding="utf-8"))
        return _kept(books)
    except OSError as error:
        raise from_os_error(error, str(path)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no build's books: {error!r}",
            rule="they are written by `data build`",
            way_out="build the catalogue again, or inspect its files one by one",
        ) from None


def _kept(books: Mapping[str, Any]) -> dict[str, Kept]:
    tally, settled = books["read"], books["duplicates"]
    found = {}
    for language in sorted({*tally["read"], *settled}):
        book = settled.get(language, {"rows_out": 0, "out": {}})
        reasons = {**tally["out"].get(language, {}), **book["out"]}
        found[language] = Kept(
            int(tally["read"].get(language, 0)),
            int(tally["kept"].get(language, 0)),
            int(book["rows_out"]),
            {str(reason): int(count) for reason, count in sorted(reasons.items()) if count},
        )
    return found
