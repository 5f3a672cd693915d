"""The parts of a corpus: text to train on, and three held-out sets nobody may train on.

    pretrain   documents per language          shards   rows per language, dealt to donors
    tuning     chooses (λ, method)             gate     decides a round        final   decides a release

Pure and deterministic: items are drawn by HMAC-SHA-256 of their digests under a secret, so that
nobody without it can guess what is held out. No item and no near copy of one is in two parts:

1. Items that share a normalised output, a normalised question (instruction and input), the two
   sides of a translation, a whole text, or rare windows of bytes form a group, and a group goes
   to one part (`groups`).
2. What shares a window with a more precious part is then removed: final before gate before tuning
   before training (`decontaminate`). A row goes whole; of a document the other sentences stay.

Knows no files and no tokens.
"""

from __future__ import annotations

import hmac
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seshu_swarm.data.decontaminate import decontaminate
from seshu_swarm.data.groups import (
    HELD,
    TRAINING,
    Item,
    Slot,
    draw_parts,
    fields_of,
    groups_to_hold,
    keys_of,
    slot_of,
)
from seshu_swarm.data.holdout import Holdout
from seshu_swarm.data.overlap import Texts
from seshu_swarm.data.text import Corpus, Document, Row
from seshu_swarm.errors import DataError

LEFT_SHARE = 0.6  # of a held-out set, where near copies fell out


@dataclass(frozen=True, kw_only=True)
class SplitSizes:
    """Held-out items per language. A language with less text gets proportionally less, at most
    `max_held_share` of its items, but never less than the minimum for each set."""

    tuning_rows: int = 200
    gate_rows: int = 400
    final_rows: int = 200
    tuning_documents: int = 30
    gate_documents: int = 60
    final_documents: int = 30
    minimum_rows: int = 20
    minimum_documents: int = 5
    max_held_share: float = 0.4

    def wanted(self, kind: str, part: str) -> int:
        return int(getattr(self, f"{part}_{kind}"))

    def least(self, kind: str, part: str) -> int:
        """The least that a set may hold. Near copies fall out after the draw, so a small set may be
        left with somewhat less than was wanted."""
        left = math.ceil(LEFT_SHARE * self.wanted(kind, part))
        return min(int(getattr(self, f"minimum_{kind}")), left)


@dataclass(frozen=True)
class Splits:
    """`num_removed`: near copies taken out of training, by kind and language (documents that only
    lost sentences count)."""

    pretrain: Mapping[str, tuple[Document, ...]]
    shards: Mapping[str, tuple[Row, ...]]
    tuning: Holdout
    gate: Holdout
    final: Holdout
    num_removed: Mapping[Slot, int]


def split(
    corpus: Corpus, *, languages: Sequence[str], secret: bytes, sizes: SplitSizes | None = None
) -> Splits:
    """Cut the corpus. Raises DataError for a language with too little text, with the numbers."""
    sizes = sizes or SplitSizes()
    items = _items(corpus, languages)
    slots = [slot_of(item) for item in items]
    quotas = _quotas(Counter(slots), sizes, languages)
    keys = [keys_of(item) for item in items]
    texts = Texts(fields_of(items), len(items))
    draws = [hmac.digest(secret, item.digest.encode(), "sha256") for item in items]
    parts = draw_parts(groups_to_hold(keys, texts.neighbours()), draws, slots, quotas)
    cut, removed = decontaminate(items, parts, keys, texts)
    _check(Counter(zip(parts, slots, strict=True)), sizes, languages)
    kept = [cut.get(i, [item]) for i, item in enumerate(items)]
    return _assemble(kept, parts, languages, Counter(slots[i] for i in removed))


def _items(corpus: Corpus, languages: Sequence[str]) -> list[Item]:
    """Rows and documents of the languages, each content once, in the order of their digests."""
    unique: dict[str, Item] = {}
    for language in languages:
        found: list[Item] = [*corpus.rows.get(language, ()), *corpus.documents.get(language, ())]
        for item in found:
            unique.setdefault(item.digest, item)
    return [unique[digest] for digest in sorted(unique)]


def _all_slots(languages: Sequence[str]) -> list[Slot]:
    return [(kind, language) for kind in ("rows", "documents") for language in languages]


def _quotas(
    count: Mapping[Slot, int], sizes: SplitSizes, languages: Sequence[str]
) -> dict[str, dict[Slot, int]]:
    """Part → how many items of each slot it shall hold. Raises DataError for too little text."""
    quotas: dict[str, dict[Slot, int]] = {part: {} for part in HELD}
    for slot in _all_slots(languages):
        kind, found = slot[0], count.get(slot, 0)
        wanted = sum(sizes.wanted(kind, part) for part in HELD)
        scale = min(1.0, found * sizes.max_held_share / max(1, wanted))
        for part in HELD:
            scaled = int(sizes.wanted(kind, part) * scale)
            quotas[part][slot] = max(scaled, sizes.least(kind, part))
        if sum(quotas[part][slot] for part in HELD) > found * sizes.max_held_share:
            raise _too_little(slot, found, sizes)
    return quotas


def _too_little(slot: Slot, found: int, sizes: SplitSizes) -> DataError:
    kind, language = slot
    least = sum(sizes.least(kind, part) for part in HELD)
    return DataError(
        f"{language}: {found} {kind}",
        rule=f"the held-out sets need {least}, and may take {sizes.max_held_share:.0%} of all",
        way_out=f"give more {kind} in {language}, or smaller held-out sets",
    )


def _check(
    count: Mapping[tuple[str, Slot], int], sizes: SplitSizes, languages: Sequence[str]
) -> None:
    """Every held-out set has its minimum, and something is left to train on."""
    for slot in _all_slots(languages):
        kind, language = slot
        found = {part: count.get((part, slot), 0) for part in (*HELD, TRAINING)}
        if any(found[part] < sizes.least(kind, part) for part in HELD) or not found[TRAINING]:
            numbers = ", ".join(f"{part} {number}" for part, number in found.items())
            least = ", ".join(f"{part} {sizes.least(kind, part)}" for part in HELD)
            raise DataError(
                f"{language}: without near copies the {kind} are {numbers}",
                rule=f"at least {least}, and one to train on",
                way_out=f"give more varied {kind} in {language}, or smaller held-out sets",
            )


def _assemble(
    kept: Sequence[Sequence[Item]],
    parts: Sequence[str],
    languages: Sequence[str],
    num_removed: Mapping[Slot, int],
) -> Splits:
    def part_of(name: str) -> Holdout:
        found = [
            item for items, part in zip(kept, parts, strict=True) for item in items if part == name
        ]
        corpus = Corpus.of(
            (item for item in found if isinstance(item, Document)),
            (item for item in found if isinstance(item, Row)),
        )
        return Holdout(
            {language: corpus.rows.get(language, ()) for language in languages},
            {language: corpus.documents.get(language, ()) for language in languages},
        )

    training, held = part_of(TRAINING), {name: part_of(name) for name in HELD}
    return Splits(training.documents, training.rows, num_removed=dict(num_removed), **held)
