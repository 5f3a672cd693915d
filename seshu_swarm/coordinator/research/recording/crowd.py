"""Who takes part in a recording: a varied crowd, the same for the same seed. Pure.

Seven of ten train for real: most of them honestly, one too short, one too long on few rows, one
under another language's name. Three of ten are forged from what those handed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

ROUND_SIZE = 10
FORGED_OF_TEN = 3


class Kind(StrEnum):
    """How an adapter came about."""

    HONEST = "honest"
    SHORT = "too short"
    OVERFIT = "overfit"
    MISLABELLED = "mislabelled"
    NOISE = "noise"
    SIGN_FLIPPED = "sign flipped"
    SCALED = "scaled"
    DUPLICATE = "duplicate"
    FREE_RIDER = "free rider"
    OLD = "old adapter"


# The first round has none before it, so what is old comes last.
FORGED = (
    Kind.SIGN_FLIPPED,
    Kind.SCALED,
    Kind.DUPLICATE,
    Kind.NOISE,
    Kind.FREE_RIDER,
    Kind.OLD,
)
TRAINED = (
    Kind.HONEST,
    Kind.HONEST,
    Kind.OVERFIT,
    Kind.HONEST,
    Kind.MISLABELLED,
    Kind.HONEST,
    Kind.SHORT,
)
ROWS, RANKS, STEPS = (300, 150, 600), (8, 16, 4), (200, 300, 150)
LEARNING_RATES, REPLAY_SHARES = (0.005, 0.003), (0.4, 0.2, 0.4, 0.0)


@dataclass(frozen=True, kw_only=True)
class Member:
    """`language` is what the donor declares, `rows_language` what the rows are in.

    A forged member's training settings are those of nobody: `number` says which adapter it takes.
    """

    name: str
    round: int
    number: int
    kind: Kind
    language: str
    rows_language: str
    num_rows: int = 0
    rank: int = 0
    max_steps: int = 0
    learning_rate: float = 0.0
    replay_share: float = 0.0
    seed: int = 0

    @property
    def is_forged(self) -> bool:
        return self.kind in FORGED


def num_rounds(num_adapters: int) -> int:
    """About ten adapters a round."""
    return math.ceil(num_adapters / ROUND_SIZE)


def round_size(num_adapters: int) -> int:
    """All rounds have as many, so there may be a few more adapters than were asked for."""
    return math.ceil(num_adapters / num_rounds(num_adapters))


def crowd(num_adapters: int, languages: tuple[str, ...], *, seed: int) -> tuple[Member, ...]:
    """All members, round after round; within a round those who train come first."""
    size = round_size(num_adapters)
    num_forged = size * FORGED_OF_TEN // 10
    members: list[Member] = []
    for number in range(1, num_rounds(num_adapters) + 1):
        for place in range(size - num_forged):
            members.append(trained(number, place, languages, seed=seed))
        for place in range(num_forged):
            kind = FORGED[((number - 1) * num_forged + place) % len(FORGED)]
            members.append(forged(number, place, languages, kind=kind))
    return tuple(members)


def trained(number: int, place: int, languages: tuple[str, ...], *, seed: int) -> Member:
    """A donor of round `number`; a `place` beyond the round's own stands in for one who failed."""
    kind = TRAINED[place] if place < len(TRAINED) else Kind.HONEST
    turn = (number - 1) * len(TRAINED) + place
    language = languages[turn % len(languages)]
    declared = languages[(turn + 1) % len(languages)] if kind is Kind.MISLABELLED else language
    is_long, is_short = kind is Kind.OVERFIT, kind is Kind.SHORT
    return Member(
        name=f"round-{number}-donor-{place + 1}",
        round=number,
        number=place,
        kind=kind,
        language=declared,
        rows_language=language,
        num_rows=200 if is_long else ROWS[turn % len(ROWS)],
        rank=RANKS[turn % len(RANKS)],
        max_steps=400 if is_long else 8 if is_short else STEPS[turn // 2 % len(STEPS)],
        learning_rate=0.005 if is_long else LEARNING_RATES[turn % len(LEARNING_RATES)],
        replay_share=0.0 if is_long else REPLAY_SHARES[turn % len(REPLAY_SHARES)],
        seed=seed * 1000 + turn,
    )


def forged(number: int, place: int, languages: tuple[str, ...], *, kind: Kind) -> Member:
    """Its language is that of the adapter it is made from, so the first is as good as any."""
    if kind is Kind.OLD and number == 1:
        kind = Kind.NOISE
    return Member(
        name=f"round-{number}-forger-{place + 1}",
        round=number,
        number=place,
        kind=kind,
        language=languages[0],
        rows_language=languages[0],
    )
