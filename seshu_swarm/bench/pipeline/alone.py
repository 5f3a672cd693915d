"""Training of the whole model in one process: what the pipeline must equal, and what it is measured by.

The same microbatches in the same order, the same schedule, and each span and the ends clipped alone;
plain torch, with none of the pipeline's code.

Shapes: B batch, L length, V vocab_size.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from seshu_swarm import checkpoints
from seshu_swarm.bench.pipeline.config import AloneConfig
from seshu_swarm.data.own_text import read_text
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.program import log
from seshu_swarm.spans import Span
from seshu_swarm.training.feeding import packed_text
from seshu_swarm.training.loop import make_optimiser
from seshu_swarm.training.schedule import Schedule


def run(settings: AloneConfig) -> int:
    """Until it is ended."""
    torch.set_num_threads(1)
    alone = Alone(settings)
    log.event("ready", "ready")
    for step in itertools.count(1):
        loss = alone.step(step)
        log.event("step", f"step {step}: loss {loss:.4f}", step=step, loss=loss)
    return 0


class Alone:
    """Raises SeshuError for a checkpoint or a text that cannot be read."""

    def __init__(self, settings: AloneConfig) -> None:
        self._settings = settings
        folder = Path(settings.base)
        shape = checkpoints.read_shape(folder)
        ends = checkpoints.load_ends(folder)
        span = checkpoints.load_span(folder, Span(0, shape.num_blocks))
        self.model = WholeModel(shape, ends=ends, span=span).train().requires_grad_(True)
        self._schedule = Schedule(learning_rate=settings.learning_rate)
        self._optimiser = make_optimiser(self.model, self._schedule)
        self._data = packed_text(
            read_text(settings.data, [settings.language]),
            batch_size=settings.batch_size,
            length=settings.length,
            seed=settings.seed,
        )

    def step(self, number: int) -> float:
        """Step `number`, from 1; its loss, in nats per token."""
        count = self._settings.microbatches
        first = (number - 1) * count
        losses = [self._loss(first + place) for place in range(count)]
        for parts in self._clipped():
            nn.utils.clip_grad_norm_(parts, self._schedule.clip)
        for group in self._optimiser.param_groups:
            group["lr"] = self._schedule.learning_rate_at(number / self._settings.num_steps)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return sum(losses) / count

    def _loss(self, number: int) -> float:
        """Of one microbatch; its share of the step's gradient is added up."""
        ids_BL = torch.from_numpy(self._data(number)[0])
        logits_BLV = self.model.logits(ids_BL[:, :-1])
        loss = functional.cross_entropy(logits_BLV.flatten(0, 1), ids_BL[:, 1:].flatten())
        (loss / self._settings.microbatches).backward()
        log.fact("microbatch", number=number, cpu_seconds=time.process_time())
        return float(loss.detach())

    def _clipped(self) -> list[list[nn.Parameter]]:
        """Parameters whose gradients are clipped together."""
        blocks = list(self.model.span.blocks)
        spans = itertools.pairwise(self._settings.bounds)
        stages = [[p for b in blocks[first:last] for p in b.parameters()] for first, last in spans]
        return [*stages, list(self.model.ends.parameters())]
