"""Fields that the messages share, each with its limits, and what of them is what in `pipeline.messages`.

Groups are numbered: stage 0, 1, … and after the last stage the ends, whose replicas are the trainers.
A member's **name** is `PEER#LIFE`, new at each start. Ids travel as {trainer's name: [numbers]}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from seshu_swarm.pipeline.messages import MicrobatchId, Version
from seshu_swarm.records.fields import Count

MAX_GROUPS = 1_000
MAX_MEMBERS = 1_000
# Together, whoever's they are.
MAX_IDS = 4_096


def _few_ids(table: dict[str, list[int]]) -> dict[str, list[int]]:
    if (count := sum(map(len, table.values()))) > MAX_IDS:
        raise ValueError(f"{count} ids, at most {MAX_IDS}")
    return table


Name = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,100}#[0-9a-f]{8}$")]
Group = Annotated[int, Field(ge=0, lt=MAX_GROUPS)]
# Of `Version`: step, round; (-1, -1) is nothing.
VersionPair = Annotated[
    list[Annotated[int, Field(ge=-1, le=1 << 53)]], Field(min_length=2, max_length=2)
]
Round = Annotated[int, Field(ge=-1, le=1 << 53)]
Ids = Annotated[dict[Name, list[Count]], Field(max_length=MAX_MEMBERS), AfterValidator(_few_ids)]


def of_version(version: Version) -> list[int]:
    return list(version)


def to_version(pair: list[int]) -> Version:
    return Version(*pair)


def of_ids(ids: Iterable[MicrobatchId]) -> dict[str, list[int]]:
    table: dict[str, list[int]] = {}
    for id_ in sorted(ids):
        table.setdefault(id_.trainer, []).append(id_.number)
    return table


def to_ids(table: Mapping[str, Iterable[int]]) -> frozenset[MicrobatchId]:
    return frozenset(MicrobatchId(name, number) for name in table for number in table[name])


def peer_of(name: str) -> str:
    """The peer id in a member's name."""
    return name.partition("#")[0]
