"""Texts of a folder or a file to train a tokeniser on, or held out from that, by language.

One text in twenty, by the hash of its content, is held out: fertility on the texts that were trained
on would flatter. Knows no tokeniser.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from seshu_swarm.data.building.tally import Bad
from seshu_swarm.data.inspecting.reading import Item, files_of, items_of

HELD_OUT_EVERY = 20
PARTS = ("train", "held-out")


class Texts:
    """Texts of `languages` (empty: all), at most `bytes_per_language` of each.

    `num_bytes` and `bad` count what the last pass gave and left out.
    """

    def __init__(
        self,
        source: Path,
        languages: Sequence[str] = (),
        *,
        bytes_per_language: int = 0,
        watch: Callable[[float], None] | None = None,
    ) -> None:
        self._files = files_of(source)
        self._languages, self._limit = frozenset(languages), bytes_per_language
        self._watch = watch
        self.num_bytes: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()

    def of(self, part: str) -> Iterator[tuple[str, str]]:
        """(language, text) of each text of a part: train or held-out."""
        self.num_bytes, self.bad = Counter(), Counter()
        for number, file in enumerate(self._files):
            for item in items_of(file):
                if isinstance(item, Bad):
                    self.bad[item.reason] += 1
                    continue
                if self._watch:
                    self._watch((number + item.at) / len(self._files))
                text = f"{item.before}\n{item.text}" if item.before else item.text
                if part_of(text) == part and self._has_room(item):
                    self.num_bytes[item.language] += len(text.encode())
                    yield item.language, text

    def _has_room(self, item: Item) -> bool:
        if self._languages and item.language not in self._languages:
            return False
        return not self._limit or self.num_bytes[item.language] < self._limit


def part_of(text: str) -> str:
    """Which part a text is in; the same text always in the same one."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return PARTS[int.from_bytes(digest[:4], "big") % HELD_OUT_EVERY == 0]
