"""Numbers of each language in a stream of items, and a few of its texts. Memory does not grow.

Lengths are in bytes of UTF-8 in NFC, without what stands before the text. Script share is that of
the text's own letters, by Unicode block, over all texts of the language together.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from seshu_swarm.data.building.tally import MAX_EXAMPLES, Bad
from seshu_swarm.data.inspecting.lengths import Lengths
from seshu_swarm.data.inspecting.reading import Item
from seshu_swarm.data.inspecting.repeats import Repeats
from seshu_swarm.data.scripts import script_share

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
HEAD_CHARACTERS = 4_096  # of a text: enough to know its script


@dataclass
class OfLanguage:
    """One language's numbers."""

    rows: int = 0
    bytes: int = 0
    characters: int = 0
    lengths: Lengths = field(default_factory=Lengths)
    repeats: Repeats = field(default_factory=Repeats)
    samples: list[str] = field(default_factory=list)
    _own_script: float = 0.0
    _with_letters: int = 0

    @property
    def script_share(self) -> float | None:
        """Mean over its bytes; None where the language's script is not known."""
        return self._own_script / self._with_letters if self._with_letters else None

    def add(self, item: Item, *, num_samples: int, rng: random.Random) -> None:
        size_bytes = len(item.text.encode("utf-8"))
        self.rows += 1
        self.bytes += size_bytes
        self.characters += len(item.text)
        self.lengths.add(size_bytes)
        self.repeats.add(f"{item.before}\n{item.text}")
        share = script_share(item.text[:HEAD_CHARACTERS], item.language)
        if share is not None:
            self._own_script += share * size_bytes
            self._with_letters += size_bytes
        self._sample(item.text, num_samples, rng)

    def _sample(self, text: str, num_samples: int, rng: random.Random) -> None:
        """Reservoir: every text so far is among the samples with the same chance."""
        if len(self.samples) < num_samples:
            self.samples.append(text[:HEAD_CHARACTERS])
        elif (k := rng.randrange(self.rows)) < num_samples:
            self.samples[k] = text[:HEAD_CHARACTERS]


class Summary:
    """`languages` and what was left out: `bad` counts by reason, with a few places each."""

    def __init__(self, *, num_samples: int, seed: int) -> None:
        self._num_samples, self._rng = num_samples, random.Random(seed)
        self.languages: dict[str, OfLanguage] = {}
        self.bad: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, item: Item | Bad) -> None:
        if isinstance(item, Item):
            found = self.languages.setdefault(item.language, OfLanguage())
            found.add(item, num_samples=self._num_samples, rng=self._rng)
            return
        self.bad[item.reason] += 1
        places = self.examples.setdefault(item.reason, [])
        if len(places) < MAX_EXAMPLES:
            places.append(f"{item.place}: {item.what}".rstrip(": "))

    def numbers(self) -> dict[str, dict[str, object]]:
        """Language → its numbers by name, sorted."""
        return {
            language: {
                "rows": found.rows,
                "bytes": found.bytes,
                "characters": found.characters,
                "script_share": found.script_share,
                "length_quantiles_bytes": {str(q): found.lengths.quantile(q) for q in QUANTILES},
                "longest_bytes": found.lengths.largest,
                "duplicate_share": found.repeats.share,
                "duplicates_are_exact": found.repeats.is_exact,
                "most_copies": found.repeats.most,
            }
            for language, found in sorted(self.languages.items())
        }
