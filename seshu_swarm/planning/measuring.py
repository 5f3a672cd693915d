"""What this machine achieves: the training loop of the repository, on noise, for some seconds."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch

from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.planning.arithmetic import training_flops
from seshu_swarm.program import reports
from seshu_swarm.training.loop import Batch, train
from seshu_swarm.training.schedule import Budget, Schedule
from seshu_swarm.training.threads import set_threads

# As many as `pretrain` computes at once by default, and what fills a GPU.
HOST_BATCH, DEVICE_BATCH = (4, 256), (8, 2_048)
MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class Measured:
    """Training throughput of one shape, and the operations per second it comes to by C = 6 N D."""

    device: str
    shape: MambaShape
    tokens_per_second: float
    memory_bytes: int

    @property
    def flops_per_second(self) -> float:
        return training_flops(self.shape.num_parameters, self.tokens_per_second)


def default_size() -> str:
    """The size that shows what a machine can do within seconds."""
    return "130m" if torch.cuda.is_available() else "micro"


def measure(shape: MambaShape, *, seconds: float, max_threads: int | None = None) -> Measured:
    """Train random weights on random bytes for `seconds`, after one step that is not counted.

    On a host with `max_threads`, or with the threads that `pretrain` would choose.
    """
    has_device = torch.cuda.is_available()
    batch, length = DEVICE_BATCH if has_device else HOST_BATCH
    if not has_device:
        set_threads(max_threads, shape, batch_size=batch, length=length)
    with torch.random.fork_rng():
        model = WholeModel(shape).to("cuda" if has_device else "cpu")

    def noise(number: int) -> Batch:
        ids_BL = np.random.default_rng(number).integers(3, 259, (batch, length), dtype=np.int64)
        return ids_BL, ids_BL

    # Kernels are compiled and memory is taken in the first step.
    train(model, noise, schedule=Schedule(), budget=Budget(max_steps=1))
    done = train(
        model, noise, schedule=Schedule(), budget=Budget(max_steps=MAX_STEPS, max_seconds=seconds)
    )
    rate = done.num_tokens / done.seconds
    return Measured(_device_name(), shape, rate, _memory_bytes())


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{reports.machine()['processor']}, {len(os.sched_getaffinity(0))} cores"


def _memory_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return int(reports.machine()["memory_bytes"])
