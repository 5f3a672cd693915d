"""The run's plan of pipelined training, as a peer finds it. Knows no steps and no tensors."""

from __future__ import annotations

from seshu_swarm.records import uids
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.training.schedule import Schedule


async def find_training(joined: Joined) -> TrainingRecord | None:
    """The plan that is open now, or None. What others than the coordinator say is not believed.

    Raises DeadlineError.
    """
    found = await joined.swarm.lookup([uids.training_key(joined.swarm.run_id)], TrainingRecord)
    own = [one.record for one in found if one.owner == joined.coordinator]
    newest = max(own, key=lambda record: record.sequence, default=None)
    return newest if newest is not None and newest.state == "open" else None


def schedule_of(record: TrainingRecord) -> Schedule:
    """How its optimisers step; `accumulation` is the number of microbatches in a step."""
    return Schedule(
        learning_rate=record.learning_rate,
        warmup_fraction=record.warmup_fraction,
        final_fraction=record.final_fraction,
        weight_decay=record.weight_decay,
        clip=record.clip,
        accumulation=record.num_microbatches,
    )
