"""A part of the model in training: its module, the gradients of a step, the optimiser.

Gradients are added up in float32 as they come; `apply` takes the average over the group, clips it
and steps. Everything is in the order of the tensors' global names, so that members of a group who
apply the same bytes hold the same weights to the bit. Knows no network and no books of ids.
Not safe for threads: all calls come from the one that computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from seshu_swarm.errors import ProtocolError, shown
from seshu_swarm.pipeline.messages import Version
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.run.training_plan import schedule_of
from seshu_swarm.training.loop import make_optimiser

MOMENTS = ("exp_avg", "exp_avg_sq")
STEP = "step"
FLOAT_BYTES = 4


class _Named(Protocol):
    def checkpoint_tensors(self) -> dict[str, Tensor]: ...


class TrainedPart:
    """`module` is a SpanModule or Ends with weights in float32; `parameters` lie in the order of their
    global names."""

    def __init__(self, module: nn.Module, record: TrainingRecord) -> None:
        self.module = module.train().requires_grad_(True)
        named = cast(_Named, module).checkpoint_tensors()
        self._named = {name: named[name] for name in sorted(named)}
        self.parameters = list(self._named.values())
        self.num_bytes = FLOAT_BYTES * sum(p.numel() for p in self.parameters)
        self._schedule, self._num_steps = schedule_of(record), record.num_steps
        self._optimiser = make_optimiser(module, self._schedule)
        self._sums: list[Tensor] = []

    def accumulate(self, gradients: Sequence[Tensor]) -> None:
        """Add one microbatch's gradients: one for each parameter, in the same order."""
        if not self._sums:
            self._sums = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        for total, gradient in zip(self._sums, gradients, strict=True):
            total += gradient

    def clear(self) -> None:
        self._sums = []

    def summed(self) -> Tensor:
        """What was accumulated, one flat copy in float32; zeros if nothing was."""
        if not self._sums:
            return torch.zeros(self.num_bytes // FLOAT_BYTES)
        return torch.cat([total.flatten() for total in self._sums])

    def apply(self, average: Tensor, version: Version) -> None:
        """One AdamW step from the weights of `version`, by a flat gradient; then nothing is
        accumulated. The gradient is finite; if its norm is not, the step is one of zeros."""
        sizes = [p.numel() for p in self.parameters]
        for parameter, part in zip(self.parameters, average.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter).clone()
        nn.utils.clip_grad_norm_(self.parameters, self._schedule.clip)
        rate = self._schedule.learning_rate_at((version.step + 1) / self._num_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.clear()

    def state(self) -> dict[str, Tensor]:
        """Copies of the weights (NAME), both moments (exp_avg/NAME, exp_avg_sq/NAME) and the number
        of steps taken (step, int64)."""
        tensors, num_steps = {}, 0
        for name, parameter in self._named.items():
            known = self._optimiser.state.get(parameter, {})
            num_steps = int(known.get(STEP, 0))
            tensors[name] = parameter.detach().clone()
            for moment in MOMENTS:
                tensor = known.get(moment, torch.zeros_like(parameter, requires_grad=False))
                tensors[f"{moment}/{name}"] = tensor.clone()
        return tensors | {STEP: torch.tensor(num_steps)}

    def check_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Whether `load_state` would take them. Raises ProtocolError that names the tensor."""
        expected = {STEP: torch.empty((), dtype=torch.int64)}
        for name, parameter in self._named.items():
            expected |= {key: parameter for key in _keys(name)}
        if wrong := sorted(expected.keys() ^ tensors.keys()):
            which = "lacks" if wrong[0] in expected else "has beside others"
            raise ProtocolError(
                f"the state of a group {which} {shown(wrong[0])}", rule=f"{len(expected)} tensors"
            )
        for name, like in expected.items():
            _check(name, tensors[name], like)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from another member's `state`; nothing is accumulated then. Raises ProtocolError for
        names, shapes or types that are not those here and what is not finite: nothing is changed."""
        self.check_state(tensors)
        num_steps = float(tensors[STEP])
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(tensors[name])
                moments = {m: tensors[f"{m}/{name}"].clone() for m in MOMENTS}
                self._optimiser.state[parameter] = {STEP: torch.tensor(num_steps)} | moments
        self.clear()

    def digest(self) -> str:
        """SHA-256 of the weights: equal weights to the bit, equal digests."""
        digest = hashlib.sha256()
        for parameter in self.parameters:
            digest.update(parameter.detach().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _keys(name: str) -> list[str]:
    return [name, *(f"{moment}/{name}" for moment in MOMENTS)]


def _check(name: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.shape != like.shape or tensor.dtype != like.dtype:
        raise ProtocolError(
            f"{name}: {tensor.dtype} of shape {list(tensor.shape)}",
            rule=f"{like.dtype} of shape {list(like.shape)}",
        )
    # A square and a number of steps below zero would be NaN one step later.
    is_square = name == STEP or name.startswith(f"{MOMENTS[1]}/")
    if not bool(torch.isfinite(tensor).all()) or (is_square and bool((tensor < 0).any())):
        raise ProtocolError(
            f"{name} holds NaN, infinity or a square below zero", rule="weights are finite"
        )
