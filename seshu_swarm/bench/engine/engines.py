"""Whatever is measured, behind one surface: ours, stock transformers, mambapy, a Transformer.

All Mambas of one size get the same random weights, from a fixed seed.

Shapes: B batch, L length, V vocab_size.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seshu_swarm.bench.engine.sizes import FALLBACK, MAMBAPY
from seshu_swarm.bench.engine.transformer import Transformer, TransformerShape
from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.kernels.choose import Kernels, available, using
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

SEED = 20_260
OURS, SDPA = "ours ", "SDPA Transformer"


class Engine(Protocol):
    """`past` is whatever the engine remembers of the tokens absorbed."""

    name: str

    @property
    def model(self) -> nn.Module: ...

    def running(self) -> AbstractContextManager[None]:
        """Everything of the engine, backward too, runs inside this."""

    def logits(self, ids_BL: Tensor) -> Tensor:
        """Of every position, (batch, length, vocab_size)."""

    def prefill(self, ids_BL: Tensor) -> tuple[Tensor, Any]:
        """Logits after the last token, (batch, vocab_size), and the past."""

    def step(self, ids_B: Tensor, past: Any) -> tuple[Tensor, Any]:
        """The same after one more token."""


class Ours:
    """Our model on one implementation of the kernels."""

    def __init__(self, model: WholeModel, kernels: Kernels) -> None:
        self.name, self.model = OURS + kernels.name, model
        self._kernels = kernels

    def running(self) -> AbstractContextManager[None]:
        return using(self._kernels)

    def logits(self, ids_BL: Tensor) -> Tensor:
        return self.model.logits(ids_BL)

    def prefill(self, ids_BL: Tensor) -> tuple[Tensor, Any]:
        return self.model.prefill(ids_BL, self.model.zero_state(ids_BL.shape[0]))

    def step(self, ids_B: Tensor, past: Any) -> tuple[Tensor, Any]:
        return self.model.step(ids_B, past)


class Stock:
    """transformers' MambaForCausalLM with the same tensors, on its fallback or on mambapy's scan."""

    def __init__(self, model: WholeModel, *, use_mambapy: bool) -> None:
        self.name = MAMBAPY if use_mambapy else FALLBACK
        self.model = _stock_model(model, use_mambapy)

    def running(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def logits(self, ids_BL: Tensor) -> Tensor:
        logits_BLV: Tensor = self.model(ids_BL, use_cache=False).logits
        return logits_BLV

    def prefill(self, ids_BL: Tensor) -> tuple[Tensor, Any]:
        return self._continue(ids_BL, None)

    def step(self, ids_B: Tensor, past: Any) -> tuple[Tensor, Any]:
        return self._continue(ids_B[:, None], past)

    def _continue(self, ids_BL: Tensor, past: Any) -> tuple[Tensor, Any]:
        said = self.model(ids_BL, cache_params=past, use_cache=True, logits_to_keep=1)
        return said.logits[:, -1], said.cache_params


class Sdpa:
    """The Transformer with as many parameters."""

    name = SDPA

    def __init__(self, shape: MambaShape) -> None:
        with _seeded():
            self.model = Transformer(TransformerShape.like(shape))

    def running(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def logits(self, ids_BL: Tensor) -> Tensor:
        return self.model.logits(ids_BL)

    def prefill(self, ids_BL: Tensor) -> tuple[Tensor, Any]:
        return self.model.prefill(ids_BL)

    def step(self, ids_B: Tensor, past: Any) -> tuple[Tensor, Any]:
        return self.model.step(ids_B, past)


def seeded_model(shape: MambaShape) -> WholeModel:
    with _seeded():
        return WholeModel(shape)


def our_names() -> list[str]:
    """Our engines on this machine; the first is what people get."""
    return [OURS + name for name in available("cpu")]


def engine_names(stock: Iterable[str]) -> list[str]:
    """The stock engines, mambapy only where it is installed, and all of ours."""
    has_mambapy = importlib.util.find_spec("mambapy") is not None
    return [*(name for name in stock if name != MAMBAPY or has_mambapy), *our_names()]


def make_engine(name: str, model: WholeModel) -> Engine:
    """The engine of that name on the tensors of `model`, not on copies. Raises UsageError."""
    if name == SDPA:
        return Sdpa(model.shape)
    if name in (FALLBACK, MAMBAPY):
        return Stock(model, use_mambapy=name == MAMBAPY)
    if name not in our_names():
        raise UsageError(
            f"engine {name!r} is not on this machine",
            way_out=f"one of: {', '.join([*engine_names((FALLBACK, MAMBAPY)), SDPA])}",
        )
    return Ours(model, available("cpu")[name.removeprefix(OURS)])


def make_separate(names: Iterable[str], model: WholeModel) -> list[Engine]:
    """The same with a copy of the tensors each: for training."""
    return [make_engine(name, copy.deepcopy(model)) for name in names]


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield


def _stock_model(model: WholeModel, use_mambapy: bool) -> nn.Module:
    from transformers import MambaConfig, MambaForCausalLM
    from transformers.utils import logging

    # It warns that its CUDA kernels are missing: that is what is measured here.
    logging.set_verbosity_error()
    config = MambaConfig.from_dict(model.shape.to_config() | {"use_mambapy": use_mambapy})
    with torch.device("meta"):
        stock: nn.Module = MambaForCausalLM(config)
    tensors = model.checkpoint_tensors()
    tensors.setdefault("lm_head.weight", tensors["backbone.embeddings.weight"])
    stock.load_state_dict(tensors, assign=True)
    return stock
