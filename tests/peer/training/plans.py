"""Plans of pipelined training, for tests."""

from __future__ import annotations

from typing import Any

from seshu_swarm.records.kinds import TrainingRecord
from tests.loopback import RUN_ID


def plan_of(*, num_blocks: int, **facts: Any) -> TrainingRecord:
    """One stage, two microbatches a step, numbers as they are on the wire, unless `facts` say else."""
    return TrainingRecord.model_validate(
        {
            "run_id": RUN_ID,
            "plan": "0123456789abcdef",
            "base": "0" * 64,
            "boundaries": (0, num_blocks),
            "batch_size": 2,
            "length": 9,
            "num_microbatches": 2,
            "num_steps": 10,
            "learning_rate": 0.01,
            "warmup_fraction": 0.1,
            "final_fraction": 0.1,
            "weight_decay": 0.1,
            "clip": 1.0,
            "wire_type": "float32",
            "state": "open",
        }
        | facts
    )
