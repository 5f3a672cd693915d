"""The blocks of one revision, loaded and ready to compute; and the pace they keep."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seshu_swarm import checkpoints
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.spans import Span

SMOOTHING = 0.1


@dataclass(frozen=True)
class ServedSpan:
    """A span of one revision in memory."""

    revision: str
    module: SpanModule

    @classmethod
    def load(cls, folder: Path, revision: str, span: Span) -> ServedSpan:
        """Raises PackageError when a shard is not what the manifest says."""
        module = checkpoints.load_span(folder, span)
        return cls(revision, module.eval().requires_grad_(False))

    @property
    def span(self) -> Span:
        return self.module.span

    def fresh_state(self, span: Span) -> RecurrentState:
        return RecurrentState.zeros(self.module.shape, span)

    def compute(self, state: RecurrentState, hidden_BLM: Tensor) -> tuple[Tensor, RecurrentState]:
        """Advance `state`, which may be of a part of this span, by the tokens of `hidden_BLM`."""
        with torch.inference_mode():
            hidden, after = self.module.part(state.span)(hidden_BLM, state)
        return hidden, after


def bytes_to_host(folder: Path, span: Span) -> int:
    """Memory that loading the span takes: its shards, which are read into their final place."""
    names = checkpoints.files_for_span(span)
    return sum((folder / name).stat().st_size for name in names if (folder / name).is_file())


class Pace:
    """Bias-corrected moving average of the seconds that one token's step takes."""

    def __init__(self) -> None:
        self._sum, self._weight = 0.0, 0.0

    def add(self, seconds: float) -> None:
        self._sum = (1 - SMOOTHING) * self._sum + SMOOTHING * seconds
        self._weight = (1 - SMOOTHING) * self._weight + SMOOTHING

    @property
    def seconds(self) -> float:
        """0 before anything was measured."""
        return self._sum / self._weight if self._weight else 0.0


class Stopwatch:
    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start
