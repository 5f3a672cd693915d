"""The same merge by mergekit, one weight at a time in its own task, where it can be imported.

It merges whole models in float32, which are made here as base + ΔW; the making counts as reading,
and is left out of its time. Its own reading and writing of files is left out too.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from typing import Any

import torch

from seshu_swarm.adapters.delta import Delta

METHODS = ("linear", "task_arithmetic", "ties", "dare_linear", "dare_ties")
# Our defaults, beside a weight for each model.
SETTINGS = {
    "ties": {"density": 0.2},
    "dare_linear": {"density": 0.5},
    "dare_ties": {"density": 0.5},
}


def is_there() -> bool:
    try:
        importlib.import_module("mergekit.merge_methods.registry")
    except Exception:  # beside libraries that it does not know it fails in any way
        return False
    return True


class Theirs:
    """A call that merges all weights; `seconds` is what mergekit itself took."""

    def __init__(self, method: str, deltas: Sequence[Delta]) -> None:
        self._method, self._deltas = method, deltas
        self.seconds = 0.0

    def __call__(self) -> None:
        self.seconds = 0.0
        weights = [1 / len(self._deltas)] * len(self._deltas)
        for name in self._deltas[0]:
            base = torch.zeros(self._deltas[0][name].shape)
            models = [base + delta[name].float() for delta in self._deltas]
            start = time.perf_counter()
            merged(self._method, base, models, weights, **SETTINGS.get(self._method, {}))
            self.seconds += time.perf_counter() - start


def merged(
    name: str,
    base: torch.Tensor,
    models: Sequence[torch.Tensor],
    weights: Sequence[float],
    **settings: float,
) -> torch.Tensor:
    """One weight of the merged model; `models` and `base` in one dtype."""
    registry, common, architecture, tasks = (
        importlib.import_module(f"mergekit.{part}")
        for part in ("merge_methods.registry", "common", "architecture", "io.tasks")
    )
    method = registry.REGISTERED_MERGE_METHODS[name]
    info = architecture.WeightInfo(name="w")
    by_model = {_reference(common, i): tensor for i, tensor in enumerate(models)}
    own = {
        model: common.ImmutableMap({"weight": weight, **settings})
        for model, weight in zip(by_model, weights, strict=True)
    }
    base_model = None
    if name != "linear":  # the only one of them that reads no base
        base_model = _reference(common, len(models))
        by_model, own = {base_model: base, **by_model}, {base_model: common.ImmutableMap({}), **own}
    task = method.make_task(
        output_weight=info,
        tensors=tasks.GatherTensors(weight_info=common.ImmutableMap(dict.fromkeys(by_model, info))),
        base_model=base_model,
        parameters=common.ImmutableMap({p.name: p.default_value for p in method.parameters()}),
        tensor_parameters=common.ImmutableMap(own),
    )
    result: torch.Tensor = task.execute(tensors=by_model)
    return result


def _reference(common: Any, number: int) -> Any:
    return common.ModelReference.model_validate(f"model-{number}")
