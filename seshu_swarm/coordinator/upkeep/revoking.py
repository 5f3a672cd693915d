"""`coordinator revoke DIGEST`: the next revision, made without an adapter that was merged before.

The merges since the last training boundary are replayed without it, held against the boundary on
the gate set, and become the head; where they fail, the boundary's weights do. Killed at any moment,
the same command goes on and ends with the same digest. What was trained on a revision with the
adapter in it is listed, and stays: no more is claimed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm import checkpoints, packages
from seshu_swarm.coordinator.config import SCORED_TOKENS, SCORED_WINDOWS
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.states import REVOKED
from seshu_swarm.coordinator.state.ledger import Judgement, Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage, Revision
from seshu_swarm.coordinator.state.removing import remove_package
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep.config import RevokeConfig
from seshu_swarm.coordinator.upkeep.finding import find_merged
from seshu_swarm.coordinator.upkeep.gating import is_no_worse, pass_gate
from seshu_swarm.coordinator.upkeep.moving import Move, judge, move_head, report_aborted
from seshu_swarm.coordinator.upkeep.replaying import (
    METHOD,
    Recipe,
    adapters_of,
    rebuild,
    recipes_by_revision,
    without,
)
from seshu_swarm.coordinator.upkeep.revocation_card import CLAIMS, revocation_card
from seshu_swarm.errors import RoundError
from seshu_swarm.packages import publish_folder
from seshu_swarm.program import log
from seshu_swarm.training.threads import set_threads


@dataclass(frozen=True)
class Outcome:
    """`tainted`: revisions with the adapter in them; `descendants`: adapters trained on those."""

    revision: str
    tainted: tuple[str, ...]
    descendants: tuple[str, ...]
    text: str


def run(settings: RevokeConfig) -> int:
    folder = RunFolder.of(settings.state_dir)
    folder.must_exist()
    with folder.hold():
        ledger = Ledger(folder.ledger)
        adapter = find_merged(ledger, settings.digest)
        head = folder.package(ledger.fact("revision"))
        set_threads(
            settings.max_threads,
            checkpoints.read_shape(head),
            batch_size=SCORED_WINDOWS,
            length=SCORED_TOKENS,
        )
        outcome = revoke(folder, ledger, adapter.digest, settings.reason)
    lines = [f"adapter {adapter.digest} is revoked: {outcome.text}"]
    lines += [f"the run is at revision {outcome.revision}"]
    lines += [f"  withdrawn, it contains the adapter: revision {r}" for r in outcome.tainted]
    lines += [f"  trained on such a revision, still merged: {d}" for d in outcome.descendants]
    lines += [CLAIMS]
    log.event(
        "revoked",
        "\n".join(lines),
        adapter=adapter.digest,
        revision=outcome.revision,
        withdrawn=outcome.tainted,
        descendants=outcome.descendants,
    )
    return 0


def revoke(folder: RunFolder, ledger: Ledger, digest: str, reason: str) -> Outcome:
    """Take a merged adapter out of the head. Raises RoundError (merged before the boundary)."""
    lineage = Lineage(ledger.database)
    line = lineage.since_boundary()
    made_by = recipes_by_revision(folder, line)
    tainted = tuple(r for r, recipes in made_by.items() if digest in adapters_of(recipes))
    if not tainted:
        raise _too_late(digest, line[0])
    head, refused = line[-1], _refused_for_ever(ledger, digest, reason)
    text = "it had been taken out already"
    if head.revision in tainted:
        about = _about(folder, line, made_by[head.revision], digest)
        revision, text = _remake(folder, ledger, about, reason)
        move = Move(
            head=head,
            revision=revision,
            kind=Kind.REVOCATION,
            why=f"adapter {digest[:12]} was revoked from its base",
            withdrawn=dict.fromkeys(tainted, f"it contains the revoked adapter {digest}"),
            judgements=refused,
        )
        move_head(folder, ledger, move)
        head = lineage.since_boundary()[-1]
    else:
        with ledger.database.open() as connection:
            judge(connection, refused)
    report_aborted(folder, ledger)
    return Outcome(head.revision, tainted, _descendants(ledger, tainted, digest), text)


def _too_late(digest: str, boundary: Revision) -> RoundError:
    return RoundError(
        f"adapter {digest} was merged before {boundary.revision[:12]}, made by {boundary.kind}",
        rule="merges are replayed from the last training boundary; what was trained since rests on it",
        way_out="it cannot be taken out without training again: open a new run from an older checkpoint",
    )


def _refused_for_ever(ledger: Ledger, digest: str, reason: str) -> tuple[Judgement, ...]:
    """The verdict that intake answers whoever hands it in again; the first reason stays."""
    found = ledger.adapter(digest)
    if found is None or found.reason.startswith(REVOKED):
        return ()
    next_step = "train a new adapter on the newest checkpoint"
    return (Judgement(digest, "rejected", f"{REVOKED}: {reason}", found.gain, next_step),)


def _about(
    folder: RunFolder, line: list[Revision], recipes: list[Recipe], digest: str
) -> dict[str, Any]:
    """The manifest's facts: all that decides the weights, and nothing of time or words."""
    head, revoked = line[-1], {digest}
    for revision in line:
        if revision.kind is Kind.REVOCATION:
            manifest = packages.read_manifest(folder.package(revision.revision))
            revoked |= set(manifest.about["revoked"])
    return {
        "method": METHOD,
        "parent": head.revision,
        "round": head.round,
        "replayed_from": line[0].revision,
        "revoked": sorted(revoked),
        "recipes": without(recipes, digest),
    }


def _remake(
    folder: RunFolder, ledger: Ledger, about: dict[str, Any], reason: str
) -> tuple[str, str]:
    """Write the new revision, and say how it was made."""
    boundary = str(about["replayed_from"])
    revision = _written(folder, about)
    text = "no other merge was left, so these are the weights of the training boundary"
    if about["recipes"]:
        gated = pass_gate(folder, ledger, base=boundary, candidate=revision)
        text = f"{len(about['recipes'])} round(s) replayed without it ({gated.text})"
        if not is_no_worse(gated.verdict):
            remove_package(folder, revision)
            about = about | {"recipes": []}
            revision = _written(folder, about)
            text = f"without it the gate said no, so the boundary's weights return ({gated.text})"
    card = revocation_card(revision, about, reason=reason, how=text)
    packages.write_whole(folder.package(revision) / checkpoints.CARD, card.encode())
    return revision, text


def _written(folder: RunFolder, about: dict[str, Any]) -> str:
    fresh: Path = folder.packages / "revoking"
    shutil.rmtree(fresh, ignore_errors=True)
    revision = rebuild(folder, about, fresh)
    publish_folder(fresh, folder.package(revision))
    return revision


def _descendants(ledger: Ledger, tainted: tuple[str, ...], digest: str) -> tuple[str, ...]:
    """Adapters that were merged and whose base had the revoked one in it."""
    found = {
        adapter.digest
        for published in ledger.rounds()
        if published.revision is not None
        for adapter in ledger.adapters(published.number)
        if adapter.state == "accepted" and gather.record_of(adapter).base_revision in tainted
    }
    return tuple(sorted(found - {digest}))
