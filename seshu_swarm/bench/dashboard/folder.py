"""A made-up snapshot as a run's folder, so that a bench reads what a coordinator reads.

Ledger, reports and manifests are as large as real ones; weights are not there but for their names.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.web.watching import FACT
from seshu_swarm.dashboard.snapshot import Change, Donor, Round, Snapshot, Verdict
from seshu_swarm.mamba.shape import MambaShape

SHAPE = MambaShape(d_model=768, num_blocks=24)
NUM_FILES = 26


def write_folder(path: Path, made: Snapshot) -> RunFolder:
    """The folder of a run with these rounds, donors and peers; each published round has a checkpoint."""
    folder = RunFolder(path)
    folder.make()
    folder.reports.mkdir()
    ledger = Ledger(folder.ledger)
    revisions = {one.number: _package(folder, one) for one in made.rounds if one.is_published}
    facts: dict[str, object] = {"run_id": made.run.run_id, "licence": made.run.licence}
    facts |= {"revision": [*revisions.values()][-1], "languages": list(made.run.languages)}
    for name, value in facts.items():
        ledger.set_fact(name, value)
    _fill(ledger, made, revisions)
    for one in made.rounds:
        table = _report(one, revisions.get(one.number))
        folder.report(one.number).write_text(json.dumps(table, indent=1))
    note_peers(ledger, made)
    return folder


def note_peers(ledger: Ledger, made: Snapshot) -> None:
    """As `run` does every ten seconds."""
    peers = [asdict(peer) for peer in made.peers or ()]
    ledger.set_fact(FACT, {"at": made.taken_at, "link": made.run.link, "peers": peers})


def _package(folder: RunFolder, one: Round) -> str:
    fresh = folder.packages / "fresh"
    fresh.mkdir(parents=True)
    names = [f"model-block-{k:05d}.safetensors" for k in range(NUM_FILES)]
    for name in names:
        (fresh / name).write_bytes(b"")
    (fresh / "config.json").write_text(json.dumps(SHAPE.to_config()))
    digest = packages.seal(fresh, "checkpoint", [*names, "config.json"], {"round": one.number})
    packages.publish_folder(fresh, folder.package(digest))
    return digest


def _fill(ledger: Ledger, made: Snapshot, revisions: dict[int, str]) -> None:
    with ledger.database.open() as connection:
        connection.executemany(
            "INSERT INTO rounds VALUES (?, ?, '', 0, ?, 0, ?, ?)",
            [
                (r.number, r.state, r.opened_at, revisions.get(r.number), r.reason)
                for r in made.rounds
            ],
        )
        connection.executemany(
            "INSERT INTO revisions VALUES (?, NULL, 'round', ?, ?, '')",
            [(revision, n, made.taken_at) for n, revision in revisions.items()],
        )
        connection.executemany(
            "INSERT INTO adapters VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?)",
            [
                _row(one.number, k, v, made.donors)
                for one in made.rounds
                for k, v in enumerate(one.verdicts)
            ],
        )


def _row(number: int, k: int, one: Verdict, donors: tuple[Donor, ...]) -> tuple[object, ...]:
    owner = donors[(number + k) % len(donors)].peer_id
    state = "accepted" if one.is_accepted else "rejected"
    return (one.digest, number, owner, bytes(400), state, one.reason, _gain(one), one.next_step)


def _gain(one: Verdict) -> str:
    return "" if one.credit is None else f"{one.credit:+.3f} bits per byte"


def _report(one: Round, revision: str | None) -> dict[str, object]:
    adapters = [
        {
            "digest": v.digest,
            "language": v.language,
            "accepted": v.is_accepted,
            "reason": v.reason,
            "gain": _gain(v),
            "next_step": v.next_step,
        }
        for v in one.verdicts
    ]
    facts = {"round": one.number, "state": one.state, "parent": "", "adapters": adapters}
    if revision is None:
        return facts | {"reason": one.reason}
    recipe = {"method": "centred_clip", "lambda": 1.0, "adapters": []}
    languages = {c.language: _numbers(c) for c in one.changes}
    return facts | {"revision": revision, "languages": languages, "recipe": recipe}


def _numbers(one: Change) -> dict[str, object]:
    change = {"low": one.low, "high": one.high, "mean": one.change, "p": 0.001}
    return {"before": one.before, "after": one.after, "change": change, "text_change": change}
