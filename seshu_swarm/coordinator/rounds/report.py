"""What a round says when it ends: verdicts in the ledger, and a report for people and programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seshu_swarm import log, packages
from seshu_swarm.coordinator.blind.judging import FinalWord
from seshu_swarm.coordinator.blind.selecting import Selection
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.states import NOT_PUBLISHED
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder


def judge(ledger: Ledger, selection: Selection, ids: Mapping[str, str], *, accepted: bool) -> None:
    """Write the verdicts of one kind: only now do random ids become digests again.

    Who was chosen learns it when the round has published, and not before.
    """
    for random_id, reason in selection.reasons.items():
        if random_id not in ids or reason.accepted is not accepted:
            continue
        gain = reason.gain_bits_per_byte
        ledger.judge(
            ids[random_id],
            state="accepted" if reason.accepted else "rejected",
            reason=f"{reason.name}: {reason.text}",
            gain="" if gain is None else f"{gain:+.3f} bits per byte",
            next_step=reason.next_step,
        )


def withdraw(ledger: Ledger, current: Round) -> None:
    """Nothing was merged: who was chosen, or still waits, learns that and may try again."""
    for adapter in ledger.adapters(current.number):
        if adapter.state in ("accepted", "pending"):
            ledger.judge(
                adapter.digest,
                state="rejected",
                reason=f"{NOT_PUBLISHED}: the round published nothing",
                gain=adapter.gain,
                next_step="nothing: it takes part in the next round, on the same base",
            )


def verdicts(ledger: Ledger, current: Round) -> list[dict[str, Any]]:
    """Every adapter of the round with what was decided; no owner is named."""
    return [
        {
            "digest": adapter.digest,
            "language": gather.record_of(adapter).language,
            "accepted": adapter.state == "accepted",
            "reason": adapter.reason,
            "gain": adapter.gain,
            "next_step": adapter.next_step,
        }
        for adapter in ledger.adapters(current.number)
    ]


def aborted(ledger: Ledger, current: Round, reason: str) -> dict[str, Any]:
    return {
        "round": current.number,
        "state": "aborted",
        "parent": current.parent,
        "reason": reason,
        "adapters": verdicts(ledger, current),
    }


def published(ledger: Ledger, current: Round, checkpoint: Path, word: FinalWord) -> dict[str, Any]:
    languages = {
        name: {
            "before": word.before[name],
            "after": word.after[name],
            "change": asdict(word.comparisons.gains[name]),
            "text_change": asdict(word.comparisons.harms[name]),
        }
        for name in word.before
    }
    return {
        "round": current.number,
        "state": "published",
        "parent": current.parent,
        "revision": checkpoint.name,
        "checkpoint": str(checkpoint),
        "recipe": packages.read_manifest(checkpoint).about,
        "languages": languages,
        "adapters": verdicts(ledger, current),
    }


def write(folder: RunFolder, facts: dict[str, Any]) -> None:
    """Keep the report and say it as the event `round`."""
    data = json.dumps(facts, indent=1, ensure_ascii=False).encode()
    packages.write_whole(folder.report(facts["round"]), data)
    outcome = facts.get("reason") or facts["revision"]
    log.event("round", f"round {facts['round']} {facts['state']}: {outcome}", **facts)
