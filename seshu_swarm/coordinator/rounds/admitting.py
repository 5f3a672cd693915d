"""From adapters that were read to those that take part: screened, and clipped to the round's norm.

Writes the refusals into the ledger. A planted copy shows in every round that screening works; it
wears an owner's name that nobody has, and is never merged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from seshu_swarm.adapters.clipping import clipped
from seshu_swarm.adapters.controls import duplicate_control
from seshu_swarm.adapters.delta import adapter_norm
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.adapters.sketch import sketch_of
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.earlier import earlier_sketches, note_sketch
from seshu_swarm.coordinator.rounds.screening import Entrant, Screened, ScreeningRefusal, screen
from seshu_swarm.coordinator.state.ledger import Ledger, Submission
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import RoundError

PLANTED = "control-duplicate"


@dataclass(frozen=True)
class Admitted:
    """Digest → adapter, within `max_norm`, which the recipe must carry."""

    adapters: dict[str, Adapter]
    max_norm: float


def admit(
    ledger: Ledger, folder: RunFolder, round_number: int, adapters: Mapping[str, Adapter]
) -> Admitted:
    """Screen the adapters of a round (by digest); the others are rejected by name in the ledger.

    Raises RoundError where the planted copy was not recognised: the round is void.
    """
    entrants = [
        _entrant(submission, adapters[submission.digest])
        for submission in ledger.adapters(round_number)
        if submission.digest in adapters
    ]
    for entrant in entrants:
        note_sketch(ledger, entrant.digest, entrant.sketch)
    earlier = earlier_sketches(ledger, folder, before=round_number)
    screened = screen([*entrants, *_planted(entrants, adapters)], earlier)
    if entrants:
        _check_planted(screened)
    _reject(ledger, screened)
    kept = {d: clipped(adapters[d], max_norm=screened.max_norm) for d in screened.kept}
    return Admitted(kept, screened.max_norm)


def _entrant(submission: Submission, adapter: Adapter) -> Entrant:
    return Entrant(
        digest=submission.digest,
        owner=submission.owner,
        language=gather.record_of(submission).language,
        arrived_at=submission.arrived_at,
        norm=adapter_norm(adapter),
        sketch=sketch_of(adapter),
    )


def _planted(entrants: list[Entrant], adapters: Mapping[str, Adapter]) -> list[Entrant]:
    """A copy, in other factors, of the adapter that came first; it comes last."""
    if not entrants:
        return []
    first = min(entrants, key=lambda entrant: (entrant.arrived_at, entrant.digest))
    copy = dataclasses.replace(
        first,
        digest=PLANTED,
        owner=PLANTED,
        arrived_at=max(entrant.arrived_at for entrant in entrants) + 1.0,
        sketch=sketch_of(duplicate_control(adapters[first.digest])),
    )
    return [copy]


def _check_planted(screened: Screened) -> None:
    found = screened.refused.get(PLANTED)
    # A copy of what repeats an earlier adapter falls as that one does.
    names = (ScreeningRefusal.DUPLICATE, ScreeningRefusal.COPY_OF_EARLIER)
    if found is None or found.refusal not in names:
        raise RoundError(
            "the round is void: DUPLICATE_MISSED",
            rule="a planted copy of an adapter must be recognised before anything is scored",
        )


def _reject(ledger: Ledger, screened: Screened) -> None:
    for digest, refused in screened.refused.items():
        if digest != PLANTED:
            ledger.judge(
                digest,
                state="rejected",
                reason=f"{refused.refusal.name}: {refused.text}",
                gain="",
                next_step=refused.next_step,
            )
