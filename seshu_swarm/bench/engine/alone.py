"""What a fresh process measures for `child`: memory and time of a training step, and inference."""

from __future__ import annotations

from typing import Any

import torch

from seshu_swarm.bench.engine import calls
from seshu_swarm.bench.engine.child import Measured, Task
from seshu_swarm.bench.engine.engines import Engine, make_engine, seeded_model
from seshu_swarm.bench.engine.measuring import best_of, peak_growth_bytes
from seshu_swarm.bench.engine.sizes import Workload
from seshu_swarm.mamba.shape import MambaShape

WARM_UP_TOKENS = 8


def measure(task: Task) -> Measured:
    torch.set_num_threads(task.threads)
    shape = MambaShape(**task.shape)
    engine = make_engine(task.engine, seeded_model(shape))
    work = Workload(shape=shape, batch=task.batch, length_tokens=task.length_tokens)
    training = _train(engine, work, task.seconds)
    inference = _infer(engine, work, task.seconds) if task.with_inference else {}
    return Measured(**training, **inference)


def _train(engine: Engine, work: Workload, seconds: float) -> dict[str, Any]:
    ids_BL = calls.random_ids(work)
    step = calls.training_step(engine)
    # Libraries, threads and the optimiser's moments are there before the peak is reset.
    step(ids_BL[:1, :WARM_UP_TOKENS])
    first_seconds, peak_bytes = peak_growth_bytes(lambda: step(ids_BL))
    best, repeats = first_seconds, 1
    if first_seconds < seconds:
        timing = best_of({"": lambda: step(ids_BL)}, seconds=seconds - first_seconds)[""]
        best, repeats = min(best, timing.seconds), 1 + timing.repeats
    return {"train_seconds": best, "train_repeats": repeats, "peak_bytes": peak_bytes}


def _infer(engine: Engine, work: Workload, seconds: float) -> dict[str, Any]:
    ids_BL = calls.random_ids(work)
    step, past = calls.decode(engine, ids_BL)
    timings = best_of(
        {"prefill": calls.prefill(engine, ids_BL), "decode": step}, seconds=seconds / 2
    )
    return {
        "prefill_seconds": timings["prefill"].seconds,
        "decode_seconds": timings["decode"].seconds,
        "past_bytes": getattr(past, "num_bytes", None),
    }
