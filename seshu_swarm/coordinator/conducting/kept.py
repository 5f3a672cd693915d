"""The run's plan in its ledger. Light: `status` and `restore` read it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.records.kinds import TrainingRecord

FACT = "training"


def kept_plan(ledger: Ledger) -> TrainingRecord | None:
    """The last plan of the run, open or over."""
    kept = ledger.fact(FACT)
    return TrainingRecord.model_validate_json(kept["record"]) if kept else None


def asked_then(ledger: Ledger) -> dict[str, Any]:
    """The settings that the last plan was made of."""
    kept = ledger.fact(FACT)
    return dict(kept["asked"]) if kept else {}


def keep_plan(ledger: Ledger, plan: TrainingRecord, asked: Mapping[str, Any]) -> TrainingRecord:
    ledger.set_fact(FACT, {"record": plan.model_dump_json(), "asked": dict(asked)})
    return plan


def close_plan(ledger: Ledger, plan: TrainingRecord) -> TrainingRecord:
    """Its steps are made, and its last checkpoint is decided upon."""
    return keep_plan(ledger, plan.model_copy(update={"state": "over"}), asked_then(ledger))


def drop_open_plan(ledger: Ledger) -> TrainingRecord | None:
    """Forget a plan whose members may be ahead of this ledger; the plan, if there was one."""
    plan = kept_plan(ledger)
    if plan is None or plan.state == "over":
        return None
    ledger.set_fact(FACT, None)
    return plan
