"""Who takes part in a round beside the others: no free rider, no copy, one share for each identity.

Between the strict reader, which sees one adapter at a time, and blind scoring, which sees no owner.
Pure: entrants and sketches in, refusals by name out. Knows ΔW by its norm and its sketch only, and
does not judge whether it helps. What it cannot see: a copy under noise of its own size.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from seshu_swarm.adapters.sketch import DUPLICATE_COSINE, Sketch, cosine

TINY_SHARE = 0.01  # of the median norm: a hundredth of the others' ΔW moves nothing
NORM_FACTOR = 2.0


class ScreeningRefusal(enum.Enum):
    """The value is what the donor can do next."""

    FREE_RIDER = "train on rows of your own and hand in what that gives"
    COPY_OF_EARLIER = "train on from the newest base: it has that adapter's work already"
    DUPLICATE = "train on your own rows: the same work counts once, for who handed it in first"
    SUPERSEDED = "nothing: your newer adapter takes part"


@dataclass(frozen=True)
class Refused:
    """`text` is a sentence for the donor; it names no other donor."""

    refusal: ScreeningRefusal
    text: str

    @property
    def next_step(self) -> str:
        return self.refusal.value


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """An adapter that passed the strict reader. `norm` is the Frobenius norm of its whole ΔW."""

    digest: str
    owner: str
    language: str
    arrived_at: float
    norm: float
    sketch: Sketch


@dataclass(frozen=True)
class Screened:
    """`kept` in the order of arrival. `max_norm` is the round's limit, 0 where nobody is left."""

    kept: tuple[str, ...]
    refused: dict[str, Refused]
    max_norm: float


def screen(entrants: Iterable[Entrant], earlier: Mapping[str, Sketch]) -> Screened:
    """Decide on all entrants of a round.

    `earlier` maps what was merged before, in words, to its sketch: adapters and whole rounds.
    """
    arrived = sorted(entrants, key=lambda entrant: (entrant.arrived_at, entrant.digest))
    refused: dict[str, Refused] = {}
    for entrant in arrived:
        refusal = _zero(entrant) or _copied(entrant, earlier) or _duplicate(entrant, arrived)
        if refusal is not None:
            refused[entrant.digest] = refusal
    refused |= _superseded([e for e in arrived if e.digest not in refused])
    refused |= _tiny([e for e in arrived if e.digest not in refused])
    kept = [entrant for entrant in arrived if entrant.digest not in refused]
    return Screened(tuple(e.digest for e in kept), refused, norm_limit([e.norm for e in kept]))


def norm_limit(norms: Sequence[float]) -> float:
    """Twice the median: whoever multiplies an adapter gains no more than that by it."""
    return NORM_FACTOR * statistics.median(norms) if norms else 0.0


def _zero(entrant: Entrant) -> Refused | None:
    # Written so that NaN counts as nothing.
    if entrant.norm > 0:
        return None
    return Refused(ScreeningRefusal.FREE_RIDER, "it changes no weight")


def _copied(entrant: Entrant, earlier: Mapping[str, Sketch]) -> Refused | None:
    for what, sketch in earlier.items():
        if cosine(entrant.sketch, sketch) > DUPLICATE_COSINE:
            return Refused(ScreeningRefusal.COPY_OF_EARLIER, f"it repeats {what}")
    return None


def _duplicate(entrant: Entrant, arrived: Sequence[Entrant]) -> Refused | None:
    """The first of all that are alike, superseded or not, keeps the place for its owner.

    So an owner may improve an adapter that others have copied meanwhile.
    """
    first = next(e for e in arrived if e is entrant or _are_alike(e, entrant))
    if (first.owner, first.language) == (entrant.owner, entrant.language):
        return None
    text = "another adapter of this round, handed in earlier, changes the weights in the same way"
    return Refused(ScreeningRefusal.DUPLICATE, text)


def _are_alike(first: Entrant, second: Entrant) -> bool:
    return cosine(first.sketch, second.sketch) > DUPLICATE_COSINE


def _superseded(arrived: Sequence[Entrant]) -> dict[str, Refused]:
    newest = {(e.owner, e.language): e.digest for e in arrived}
    text = "you handed in a newer adapter for this language, and one of each takes part"
    return {
        e.digest: Refused(ScreeningRefusal.SUPERSEDED, text)
        for e in arrived
        if newest[e.owner, e.language] != e.digest
    }


def _tiny(entrants: Sequence[Entrant]) -> dict[str, Refused]:
    least = TINY_SHARE * statistics.median(e.norm for e in entrants) if entrants else 0.0
    return {
        e.digest: Refused(
            ScreeningRefusal.FREE_RIDER,
            f"its change has norm {e.norm:.2g}, less than {TINY_SHARE:g} of the round's median",
        )
        for e in entrants
        if e.norm < least
    }
