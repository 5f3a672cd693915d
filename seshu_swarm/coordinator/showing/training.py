"""Pipelined training in `status`: the plan, its members, its checkpoints."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from seshu_swarm.coordinator.conducting.decided import decided_of
from seshu_swarm.coordinator.conducting.kept import kept_plan
from seshu_swarm.coordinator.conducting.progress import FACT
from seshu_swarm.coordinator.state.ledger import Ledger

SHOWN_CHECKPOINTS = 5


def training_facts(ledger: Ledger) -> dict[str, Any] | None:
    """Of the run's last plan, or None. `at` is when the members were seen."""
    plan = kept_plan(ledger)
    if plan is None:
        return None
    told = ledger.fact(FACT)
    seen = told if told and told["plan"] == plan.plan else {}
    checkpoints = [asdict(one) for one in decided_of(ledger, plan.plan)]
    return {
        "step": 0,
        "members": [],
        **seen,
        "plan": plan.plan,
        "state": plan.state,
        "base": plan.base,
        "boundaries": list(plan.boundaries),
        "num_steps": plan.num_steps,
        "checkpoints": checkpoints,
    }


def training_parts(facts: dict[str, Any]) -> list[str | Table]:
    stages = " | ".join(
        f"{start}:{end}"
        for start, end in zip(facts["boundaries"], facts["boundaries"][1:], strict=False)
    )
    line = (
        f"plan {facts['plan']} is {facts['state']}: step {facts['step']} of {facts['num_steps']}, "
        f"stages {stages}"
    )
    if "loss" in facts:
        seen = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["at"]))
        line += (
            f"\nloss {facts['loss']:.3f} nats per token, {facts['tokens_per_second']:,.0f} tokens/s, "
            f"{facts['num_tokens']:,} tokens, as of {seen}"
        )
    parts: list[str | Table] = [line]
    if facts["members"]:
        parts.append(_members(facts))
    if facts["checkpoints"]:
        parts.append(_checkpoints(facts["checkpoints"]))
    return parts


def _members(facts: dict[str, Any]) -> Table:
    table = Table(
        "group", "member", "in step", "for", "silent", "microbatches counted", title="training"
    )
    num_stages = len(facts["boundaries"]) - 1
    for one in sorted(facts["members"], key=lambda one: (one["group"], one["name"])):
        group = "ends" if one["group"] == num_stages else f"stage {one['group']}"
        table.add_row(
            group,
            f"…{one['name'][-15:]}",
            "yes" if one["is_in_step"] else "no",
            f"{one['age_seconds']:,.0f} s",
            f"{one['silent_seconds']:.1f} s",
            f"{one['num_counted']:,}",
        )
    return table


def _checkpoints(found: list[dict[str, Any]]) -> Table:
    table = Table("step", "revision", "verdict", "reason", title="checkpoints of the plan")
    for one in found[-SHOWN_CHECKPOINTS:]:
        table.add_row(str(one["step"]), one["revision"][:16], one["state"], escape(one["reason"]))
    return table
