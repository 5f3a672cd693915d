"""`coordinator status`, `round N`, `verify N`: what the ledger says, and whether it is true."""

from __future__ import annotations

import json
import shutil
from typing import Any

from rich.console import Console
from rich.table import Table

from seshu_swarm import checkpoints, log, packages
from seshu_swarm.adapters.delta import Delta, LowRankDelta
from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.rules import AdapterRules
from seshu_swarm.coordinator.config import RoundConfig, StatusConfig, VerifyConfig
from seshu_swarm.coordinator.releasing import publish
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import DigestError, RoundError


def _open(state_dir: str) -> tuple[RunFolder, Ledger]:
    folder = RunFolder.of(state_dir)
    folder.must_exist()
    return folder, Ledger(folder.ledger)


def status(settings: StatusConfig) -> int:
    _, ledger = _open(settings.state_dir)
    names = ("run_id", "fingerprint", "languages", "licence", "revision", "catalogue")
    facts: dict[str, Any] = {name: ledger.fact(name) for name in names}
    rounds = [
        {"round": r.number, "state": str(r.state), "revision": r.revision, "reason": r.reason}
        for r in ledger.rounds()
    ]
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in facts.items()]
    lines += [
        f"round {r['round']}: {r['state']} {r['revision'] or r['reason'] or ''}" for r in rounds
    ]
    log.event("status", "\n".join(lines), **facts, rounds=rounds)
    return 0


def round_report(settings: RoundConfig) -> int:
    folder, ledger = _open(settings.state_dir)
    number = int(settings.number)
    found = ledger.round(number)
    path = folder.report(number)
    if not path.exists():
        log.event("round", f"round {number} is {found.state}", round=number, state=str(found.state))
        return 0
    facts = json.loads(path.read_bytes())
    if log.is_text():
        _print(facts)
    else:
        log.event("round", "", **facts)
    return 0


def _print(facts: dict[str, Any]) -> None:
    console = Console()
    outcome = facts.get("reason") or facts.get("revision")
    console.print(f"round {facts['round']} {facts['state']}: {outcome}")
    languages = Table("language", "bits per byte before", "after", "change", "95 % interval")
    for name, found in facts.get("languages", {}).items():
        change = found["change"]
        interval = f"[{change['low']:+.4f}, {change['high']:+.4f}]"
        after = found["after"] - found["before"]
        languages.add_row(
            name, f"{found['before']:.4f}", f"{found['after']:.4f}", f"{after:+.4f}", interval
        )
    adapters = Table("adapter", "language", "verdict", "gain", "reason", "next step")
    for found in facts["adapters"]:
        verdict = "accepted" if found["accepted"] else "rejected"
        cells = (found["gain"], found["reason"], found["next_step"])
        adapters.add_row(found["digest"][:12], found["language"], verdict, *cells)
    if languages.row_count:
        console.print(languages)
    console.print(adapters)


def verify(settings: VerifyConfig) -> int:
    """Make the round's checkpoint again from parent and adapters. Raises DigestError."""
    folder, ledger = _open(settings.state_dir)
    found = ledger.round(int(settings.number))
    if found.revision is None:
        raise RoundError(f"round {found.number} published nothing ({found.state})")
    packages.verify(folder.package(found.revision), found.revision)
    recipe = packages.read_manifest(folder.package(found.revision)).about
    again = folder.packages / f"verifying-round-{found.number}"
    shutil.rmtree(again, ignore_errors=True)
    try:
        digest = publish.write_checkpoint(folder, _delta(folder, recipe), recipe, again)
    finally:
        shutil.rmtree(again, ignore_errors=True)
    if digest != found.revision:
        raise DigestError(
            f"round {found.number} merged again gives {digest}",
            rule=f"{found.revision} was published",
            way_out="parent, adapters or program differ from those of the round",
        )
    log.event("verified", f"round {found.number} verified: {digest}", revision=digest)
    return 0


def _delta(folder: RunFolder, recipe: dict[str, Any]) -> Delta:
    mixture = publish.mixture_of(recipe)
    shape = checkpoints.read_shape(folder.package(recipe["parent"]))
    adapters = {
        digest: read_adapter(
            folder.adapter(digest), shape=shape, rules=AdapterRules(), digest=digest
        )
        for digest in mixture.ids
    }
    deltas: dict[str, Delta] = {d: LowRankDelta(adapter) for d, adapter in adapters.items()}
    return mixture.delta(deltas)
