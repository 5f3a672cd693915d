"""Groups of items that must stay in one part, and the draw that gives each group its part.

Items are rows and documents, here known by their index. Pure; knows no corpus and no removal of
what is left between the parts (`splits`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from seshu_swarm.data.overlap import COMMON, Field, normalise
from seshu_swarm.data.text import Document, Row

HELD = ("final", "gate", "tuning")  # most precious first
TRAINING = "training"
SPARE = "spare"  # near a held-out item, but not needed: in no part
MAX_GROUP_ITEMS = 48
MAX_GROUP_SHARE = 0.25

Item = Row | Document
Key = tuple[str, bytes]
Slot = tuple[str, str]  # kind ("rows" or "documents") and language


def slot_of(item: Item) -> Slot:
    return ("rows" if isinstance(item, Row) else "documents", item.language)


def fields_of(items: Sequence[Item]) -> list[Field]:
    """The texts in which near copies are looked for."""
    fields = []
    for i, item in enumerate(items):
        if isinstance(item, Document):
            fields.append(Field(i, normalise(item.text)))
        else:
            fields.append(Field(i, normalise(item.instruction), is_instruction=True))
            fields += [Field(i, normalise(text)) for text in (item.input, item.output)]
    return fields


def keys_of(item: Item) -> list[Key]:
    """What no two items may have in common across parts: whole texts, at any length."""
    if isinstance(item, Document):
        return [("text", normalise(item.text))]
    question, output = normalise(item.input), normalise(item.output)
    keys = [("text", output)]
    if item.instruction or item.input:
        keys.append(("question", normalise(item.instruction) + b"\0" + question))
    if question:  # a translation and its way back
        keys.append(("pair", b"\0".join(sorted((question, output)))))
    return keys


@dataclass(frozen=True)
class Group:
    """`is_costly`: holding it out takes a large part of another text from training."""

    items: tuple[int, ...]
    is_costly: bool


def groups_to_hold(
    keys: Sequence[Sequence[Key]], neighbours: Sequence[tuple[int, int]]
) -> list[Group]:
    """The groups that may be held out.

    Not those with a key that more than `COMMON` items have, such as the answer `yes`. Costly are
    those with more than `MAX_GROUP_ITEMS` neighbours at one item: an article whose every sentence
    is also a row.
    """
    count = Counter(key for found in keys for key in found)
    common = frozenset(key for key, times in count.items() if times > COMMON)
    degree = Counter(i for pair in neighbours for i in pair)
    return [
        Group(tuple(items), any(degree[i] > MAX_GROUP_ITEMS for i in items))
        for items in _groups(keys, common, neighbours)
        if common.isdisjoint(key for i in items for key in keys[i])
    ]


def _groups(
    keys: Sequence[Sequence[Key]], common: frozenset[Key], neighbours: Iterable[tuple[int, int]]
) -> list[list[int]]:
    """Items with equal keys and neighbours, joined until a group has `MAX_GROUP_ITEMS`.

    Chains of neighbours would join a whole library; where one is broken, its items may fall into
    two parts, and what they share is removed from one of them.
    """
    members = {i: [i] for i in range(len(keys))}
    group = list(range(len(keys)))

    def join(a: int, b: int) -> None:
        small, large = sorted((group[a], group[b]), key=lambda g: len(members[g]))
        if small == large or len(members[small]) + len(members[large]) > MAX_GROUP_ITEMS:
            return
        for i in members[small]:
            group[i] = large
        members[large] += members.pop(small)

    first: dict[Key, int] = {}
    for i, found in enumerate(keys):
        for key in found:
            if key not in common:
                join(i, first.setdefault(key, i))
    for a, b in neighbours:
        join(a, b)
    return list(members.values())


def draw_parts(
    groups: Sequence[Group],
    draws: Sequence[bytes],
    slots: Sequence[Slot],
    quotas: Mapping[str, Mapping[Slot, int]],
) -> list[str]:
    """The part of each item: groups in the order of their draw, each to the part that needs it."""
    parts = [TRAINING] * len(slots)
    need = {part: Counter(quota) for part, quota in quotas.items()}
    counted = [(group, Counter(slots[i] for i in group.items)) for group in groups]
    counted = [entry for entry in counted if _is_small(entry[1], quotas["gate"])]
    counted.sort(key=lambda entry: (entry[0].is_costly, min(draws[i] for i in entry[0].items)))
    # First groups that are mostly needed; then, for languages still short, any that help.
    for minimum_use in (0.75, 0.3, 0.0):
        short = {slot for quota in need.values() for slot, n in quota.items() if n > 0}
        for group, sizes in counted:
            if parts[group.items[0]] == TRAINING and not short.isdisjoint(sizes):
                part = _choose(sizes, need, quotas, minimum_use)
                if part is not None:
                    _give(group, part, need[part], parts, slots)
                    short -= {s for s in sizes if all(need[name][s] <= 0 for name in HELD)}
    return parts


def _is_small(sizes: Counter[Slot], quota: Mapping[Slot, int]) -> bool:
    """Whether the group leaves room for others: a set of one story tells of one story."""
    return all(n <= max(2, MAX_GROUP_SHARE * quota[slot]) for slot, n in sizes.items())


def _choose(
    sizes: Counter[Slot],
    need: Mapping[str, Counter[Slot]],
    quotas: Mapping[str, Mapping[Slot, int]],
    minimum_use: float,
) -> str | None:
    """The part that can use most of a group, the emptiest of equals; None: none uses enough."""
    used = {part: sum(min(n, need[part][s]) for s, n in sizes.items()) for part in HELD}
    most = max(used.values())
    if not most or most < minimum_use * sizes.total():
        return None

    def emptiness(part: str) -> float:
        return sum(need[part][s] / max(1, quotas[part][s]) for s in sizes)

    return max((part for part in HELD if used[part] == most), key=emptiness)


def _give(
    group: Group, part: str, need: Counter[Slot], parts: list[str], slots: Sequence[Slot]
) -> None:
    """Items that the part does not need are spare: they are near copies of those it takes."""
    for i in group.items:
        parts[i] = part if need[slots[i]] > 0 else SPARE
        need[slots[i]] -= parts[i] == part
