"""Rounds, donors, checkpoints and training of a run, as its ledger and its rounds' reports have them.

Of a round under way only numbers are told: verdicts and who they are about are for after its end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from seshu_swarm import packages
from seshu_swarm.coordinator.conducting import journal, progress
from seshu_swarm.coordinator.conducting.kept import kept_plan
from seshu_swarm.coordinator.releasing.withdrawn import tag_of
from seshu_swarm.coordinator.rounds.states import ENDED
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Lineage, Revision
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.dashboard.snapshot import (
    Change,
    Checkpoint,
    Donor,
    File,
    Round,
    Training,
    Verdict,
)
from seshu_swarm.errors import PackageError

_GAIN = re.compile(r"([+-]\d{1,4}\.\d{1,6}) bits per byte")
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Handed:
    """An adapter in the ledger: what a scoreboard counts."""

    round: int
    owner: str
    is_accepted: bool
    credit: float | None


def handed_in(ledger: Ledger) -> list[Handed]:
    """Every adapter of every round, in one reading."""
    with ledger.database.open() as connection:
        rows = connection.execute("SELECT round, owner, state, gain FROM adapters").fetchall()
    return [Handed(r, str(owner), state == "accepted", credit(g)) for r, owner, state, g in rows]


def credit(gain: str) -> float | None:
    """The number of a verdict's gain, in bits per byte, or None."""
    found = _GAIN.fullmatch(gain)
    return float(found[1]) if found else None


def rounds(
    ledger: Ledger, handed: Iterable[Handed], reports: Mapping[int, Report]
) -> tuple[Round, ...]:
    """Oldest first."""
    counts: dict[int, list[int]] = {}
    for one in handed:
        count = counts.setdefault(one.round, [0, 0])
        count[0] += 1
        count[1] += one.is_accepted
    return tuple(
        Round(
            number=one.number,
            state=str(one.state),
            opened_at=one.opened_at,
            revision=one.revision,
            reason=one.reason,
            num_adapters=counts.get(one.number, [0, 0])[0],
            num_accepted=counts.get(one.number, [0, 0])[1],
            changes=_changes(reports.get(one.number, {})),
            verdicts=_verdicts(reports.get(one.number, {})) if one.state in ENDED else (),
        )
        for one in ledger.rounds()
    )


def _changes(report: Report) -> tuple[Change, ...]:
    return tuple(
        Change(
            language=language,
            before=numbers["before"],
            after=numbers["after"],
            low=numbers["change"]["low"],
            high=numbers["change"]["high"],
        )
        for language, numbers in report.get("languages", {}).items()
    )


def _verdicts(report: Report) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(
            digest=one["digest"],
            language=one["language"],
            is_accepted=one["accepted"],
            reason=one["reason"],
            next_step=one.get("next_step", ""),
            credit=credit(one["gain"]),
        )
        for one in report.get("adapters", ())
    )


def donors(handed: Iterable[Handed], ended: Collection[int]) -> tuple[Donor, ...]:
    """Of ended rounds; most credit first, then most merged."""
    found: dict[str, list[Handed]] = {}
    for one in handed:
        if one.round in ended:
            found.setdefault(one.owner, []).append(one)
    board = [
        Donor(
            peer_id=owner,
            num_adapters=len(own),
            num_accepted=sum(one.is_accepted for one in own),
            credit=sum(one.credit or 0.0 for one in own if one.is_accepted),
            last_round=max(one.round for one in own),
        )
        for owner, own in found.items()
    ]
    return tuple(sorted(board, key=lambda d: (-d.credit, -d.num_accepted, d.peer_id)))


def checkpoints(folder: RunFolder, ledger: Ledger) -> tuple[Checkpoint, ...]:
    """Newest first."""
    hubs = _hubs(ledger)
    line = Lineage(ledger.database).all()
    return tuple(_checkpoint(folder, one, hubs.get(one.revision, "")) for one in reversed(line))


def _checkpoint(folder: RunFolder, one: Revision, hub: str) -> Checkpoint:
    place = folder.package(one.revision)
    try:
        manifest = _manifest(place)
    except PackageError:
        manifest = packages.Manifest("checkpoint", {})
    # Weights of old rounds may have been removed to make room.
    is_whole = bool(manifest.files) and all((place / name).is_file() for name in manifest.files)
    files = [
        File(name=n, size_bytes=e.size_bytes, digest=e.digest) for n, e in manifest.files.items()
    ]
    return Checkpoint(
        revision=one.revision,
        kind=str(one.kind),
        round=one.round,
        made_at=one.made_at,
        size_bytes=manifest.size_bytes if manifest.files else None,
        withdrawn=one.withdrawn,
        hub=f"{hub}@{tag_of(one)}" if hub else "",
        files=tuple(files) if is_whole and not one.withdrawn else (),
    )


@lru_cache(maxsize=512)
def _manifest(place: Path) -> packages.Manifest:
    """A package's folder is named by the digest of its manifest, which never changes there."""
    return packages.read_manifest(place)


def _hubs(ledger: Ledger) -> dict[str, str]:
    """Revision → the repository that it was pushed to, by the facts `releasing.release` notes."""
    with ledger.database.open() as connection:
        rows = connection.execute("SELECT name FROM facts WHERE name LIKE 'hub %/%'").fetchall()
    return {
        one["revision"]: str(name).partition(" ")[2]
        for (name,) in rows
        for one in ledger.fact(str(name)) or []
    }


def training(ledger: Ledger) -> Training | None:
    """The run's last plan of training through peers, with what its conductor last noted."""
    plan = kept_plan(ledger)
    if plan is None:
        return None
    told, books = (
        _of_plan(ledger, progress.FACT, plan.plan),
        _of_plan(ledger, journal.FACT, plan.plan),
    )
    return Training(
        plan=plan.plan,
        state=plan.state,
        step=int(told.get("step", 0)),
        num_steps=plan.num_steps,
        boundaries=plan.boundaries,
        loss=told.get("loss") if told.get("num_tokens") else None,
        num_tokens=int(told.get("num_tokens", 0)),
        tokens_per_second=float(told.get("tokens_per_second", 0.0)),
        at=float(told.get("at", 0.0)),
        num_members=len(told.get("members", ())),
        curve=tuple((int(step), float(loss)) for step, loss in books.get("curve", ())),
    )


def _of_plan(ledger: Ledger, fact: str, plan: str) -> dict[str, Any]:
    found = ledger.fact(fact)
    return found if found and found["plan"] == plan else {}
