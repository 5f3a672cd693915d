"""What a donor is told when the strict reader says no."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.refusals import refusal_of
from seshu_swarm.adapters.rules import AdapterRules
from seshu_swarm.errors import AdapterError
from tests.adapters.samples import RULES, SHAPE, key, lora_tensors, write_adapter

Tensors = dict[str, torch.Tensor]

A0 = key(0, "in_proj", "A")
B0 = key(0, "in_proj", "B")


def refused(folder: Path, rules: AdapterRules = RULES, **options: Any) -> str:
    """The name of the refusal; the error must carry the donor's next step."""
    with pytest.raises(AdapterError) as caught:
        read_adapter(folder, shape=SHAPE, rules=rules, **options)
    refusal = refusal_of(caught.value)
    assert refusal is not None and caught.value.way_out
    return refusal.name


def refused_tensors(folder: Path, change: Callable[[Tensors], None]) -> str:
    """The same for the sample with changed tensors."""
    tensors = lora_tensors()
    change(tensors)
    write_adapter(folder, tensors)
    return refused(folder)


def accepted(folder: Path) -> bool:
    return bool(read_adapter(folder, shape=SHAPE, rules=RULES).pairs)


def put(name: str, tensor: torch.Tensor) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = tensor

    return change
