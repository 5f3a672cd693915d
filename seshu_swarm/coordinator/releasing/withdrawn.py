"""Releases that were withdrawn: not pushed any more, and named by every card that comes after."""

from __future__ import annotations

from seshu_swarm import packages
from seshu_swarm.coordinator.releasing import card
from seshu_swarm.coordinator.releasing.card import Withdrawn, withdrawn_text
from seshu_swarm.coordinator.releasing.names import CARD
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage, Revision
from seshu_swarm.coordinator.state.run_folder import RunFolder


def tag_of(one: Revision) -> str | None:
    """The name of a revision's release on the Hub; None for the base, which no round made.

    What pretraining or a revocation made is pushed too: the head there is the head here.
    """
    if one.parent is None:
        return None
    if one.kind is Kind.ROUND:
        return card.tag_of(one.round)
    return f"{one.kind}-{one.revision[:12]}"


def withdrawn_until(ledger: Ledger, revision: str) -> tuple[Withdrawn, ...]:
    """Those of the run's line up to `revision`, oldest first."""
    found = []
    for one in Lineage(ledger.database).all():
        if one.withdrawn and (tag := tag_of(one)):
            found.append(Withdrawn(tag, one.revision, one.withdrawn))
        if one.revision == revision:
            break
    return tuple(found)


def write_withdrawn(folder: RunFolder, ledger: Ledger, revision: str) -> None:
    """Say in the card of what no round made which releases are withdrawn. Raises ResourceError.

    A round's own card is written whole, with this section in it.
    """
    place, withdrawn = folder.package(revision) / CARD, withdrawn_until(ledger, revision)
    if not withdrawn or not place.is_file():
        return
    said, _, _ = place.read_text(encoding="utf-8").partition(f"\n\n{card.WITHDRAWN}\n")
    text = f"{said.rstrip()}\n\n{withdrawn_text(withdrawn)}\n"
    packages.write_whole(place, text.encode("utf-8"))
