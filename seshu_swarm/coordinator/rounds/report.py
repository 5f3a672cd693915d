"""What a round says when it ends: verdicts in the ledger, and a report for people and programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seshu_swarm import packages
from seshu_swarm.coordinator.blind.judging import FinalWord
from seshu_swarm.coordinator.blind.selecting import Reason, Selection
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.states import NOT_PUBLISHED
from seshu_swarm.coordinator.state.ledger import Judgement, Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.program import log


@dataclass(frozen=True)
class Decided:
    """How far a round came: random id → digest, and what selection says of each id."""

    ids: Mapping[str, str]
    reasons: Mapping[str, Reason]

    @classmethod
    def of(cls, ids: Mapping[str, str], selection: Selection | None) -> Decided:
        return cls(ids, selection.reasons if selection else {})


def judgements(
    ledger: Ledger, current: Round, decided: Decided, *, is_published: bool
) -> list[Judgement]:
    """What becomes of every adapter that still waits: only now are random ids digests again.

    Where nothing was published, who was chosen or never measured learns that, and may try again.
    """
    names = {digest: random_id for random_id, digest in decided.ids.items()}
    waiting = [a.digest for a in ledger.adapters(current.number) if a.state == "pending"]
    found = []
    for digest in waiting:
        reason = decided.reasons.get(names.get(digest, ""))
        if reason is None or (reason.accepted and not is_published):
            found.append(_not_published(digest, reason))
        else:
            found.append(_judgement(digest, reason))
    return found


def _judgement(digest: str, reason: Reason) -> Judgement:
    state = "accepted" if reason.accepted else "rejected"
    text = f"{reason.name}: {reason.text}"
    return Judgement(digest, state, text, _gain(reason), reason.next_step)


def _not_published(digest: str, reason: Reason | None) -> Judgement:
    text = f"{NOT_PUBLISHED}: the round published nothing"
    next_step = "wait: it takes part in the next round, on the same base, beside what is new there"
    return Judgement(digest, "rejected", text, _gain(reason), next_step)


def _gain(reason: Reason | None) -> str:
    gain = reason.gain_bits_per_byte if reason else None
    return "" if gain is None else f"{gain:+.3f} bits per byte"


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
