"""The plan of pipelined training: settled once, from the settings and the head. Knows no members.

An open plan goes on as it was written down, whatever `run` is started with. One that is over is not made
again by the same settings, so that a restarted coordinator does not train twice; others make a new one.
"""

from __future__ import annotations

import secrets
from typing import Any

from seshu_swarm import checkpoints, packages
from seshu_swarm.coordinator.conducting.kept import asked_then, keep_plan, kept_plan
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import UsageError
from seshu_swarm.program import log
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.training.schedule import Schedule

FRESH_LEARNING_RATE = 4e-3
LATER_LEARNING_RATE = 1e-3  # a peak as high as a fresh base's forgets what was learned
SETTINGS = (
    "stages",
    "train_steps",
    "microbatches",
    "train_batch_size",
    "train_length",
    "train_learning_rate",
    "wire_type",
    "compute_type",
)


def open_plan(folder: RunFolder, ledger: Ledger, settings: RunConfig) -> TrainingRecord | None:
    """The plan to carry out now, or None. Raises UsageError for more stages than blocks."""
    if settings.stages == 0:
        return None
    asked = {name: getattr(settings, name) for name in SETTINGS}
    plan, then = kept_plan(ledger), asked_then(ledger)
    if plan is not None and plan.state == "open":
        _say_what_is_passed_over(plan, then, asked)
        return plan
    if plan is not None and then == asked:
        return None
    return keep_plan(ledger, _new(folder, ledger, settings), asked)


def cut(num_blocks: int, num_stages: int) -> tuple[int, ...]:
    """Boundaries of spans whose lengths differ by one block at most. Raises UsageError."""
    if not 1 <= num_stages <= min(num_blocks, 63):
        raise UsageError(
            f"--stages {num_stages} of {num_blocks} blocks",
            rule="every stage has a block, and there are 63 stages at most",
        )
    return tuple(stage * num_blocks // num_stages for stage in range(num_stages + 1))


def was_trained(folder: RunFolder, revision: str) -> bool:
    """Whether a checkpoint is more than the random weights that `pretrain --max-steps 0` makes."""
    return bool(packages.read_manifest(folder.package(revision)).about.get("num_steps") != 0)


def _new(folder: RunFolder, ledger: Ledger, settings: RunConfig) -> TrainingRecord:
    base = ledger.fact("revision")
    shape = checkpoints.read_shape(folder.package(base))
    default = LATER_LEARNING_RATE if was_trained(folder, base) else FRESH_LEARNING_RATE
    schedule = Schedule(learning_rate=settings.train_learning_rate or default)
    return TrainingRecord(
        run_id=ledger.fact("run_id"),
        plan=secrets.token_hex(8),
        base=base,
        boundaries=cut(shape.num_blocks, settings.stages),
        batch_size=settings.train_batch_size,
        length=settings.train_length,
        num_microbatches=settings.microbatches,
        num_steps=settings.train_steps,
        learning_rate=schedule.learning_rate,
        warmup_fraction=schedule.warmup_fraction,
        final_fraction=schedule.final_fraction,
        weight_decay=schedule.weight_decay,
        clip=schedule.clip,
        wire_type=settings.wire_type,  # type: ignore[arg-type]
        compute_type=settings.compute_type,  # type: ignore[arg-type]
        state="open",
    )


def _say_what_is_passed_over(
    plan: TrainingRecord, kept: dict[str, Any], asked: dict[str, Any]
) -> None:
    others = [f"{name} {asked[name]}" for name in SETTINGS if asked[name] != kept.get(name)]
    if others:
        text = f"plan {plan.plan} is open and goes on as it was made; not used: {', '.join(others)}"
        log.event("plan-goes-on", text, plan=plan.plan)
