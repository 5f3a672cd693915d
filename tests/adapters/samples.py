"""Adapters for tests: a tiny shape, and folders as peft and the sealer leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from seshu_swarm import packages
from seshu_swarm.adapters.reader import Adapter, read_adapter
from seshu_swarm.adapters.rules import CONFIG_FILE, TENSOR_FILE, AdapterRules
from seshu_swarm.mamba.shape import MambaShape

SHAPE = MambaShape(d_model=8, num_blocks=2, vocab_size=32, d_state=4, dt_rank=1)
RULES = AdapterRules()
SIZES = {"in_proj": (32, 8), "x_proj": (9, 16), "out_proj": (8, 16)}  # worked out by hand
PREFIX = "base_model.model.backbone.layers"


def key(block_index: int, target: str, factor: str) -> str:
    return f"{PREFIX}.{block_index}.mixer.{target}.lora_{factor}.weight"


def lora_tensors(
    *, rank: int = 2, seed: int = 0, targets: tuple[str, ...] = tuple(SIZES)
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for block_index in range(SHAPE.num_blocks):
        for target in targets:
            rows, columns = SIZES[target]
            tensors[key(block_index, target, "A")] = torch.randn(rank, columns, generator=generator)
            tensors[key(block_index, target, "B")] = torch.randn(rows, rank, generator=generator)
    return tensors


def lora_config(**changes: Any) -> dict[str, Any]:
    """The keys that decide; the rest of what peft writes is tested with peft itself."""
    return {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["x_proj", "in_proj", "out_proj"],
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
        **changes,
    }


def write_adapter(
    folder: Path,
    tensors: dict[str, torch.Tensor] | bytes | None = None,
    *,
    config: dict[str, Any] | bytes | None = None,
    about: dict[str, Any] | None = None,
) -> str:
    """Write and seal an adapter; its digest."""
    folder.mkdir(exist_ok=True)
    tensors = lora_tensors() if tensors is None else tensors
    data = tensors if isinstance(tensors, bytes) else safetensors.torch.save(tensors)
    config = lora_config() if config is None else config
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    (folder / TENSOR_FILE).write_bytes(data)
    (folder / CONFIG_FILE).write_bytes(text)
    return packages.seal(folder, "adapter", [CONFIG_FILE, TENSOR_FILE], about or {})


def made(folder: Path, *, seed: int = 0, rank: int = 2, **config: Any) -> Adapter:
    """An adapter that went through the strict reader."""
    write_adapter(folder, lora_tensors(seed=seed, rank=rank), config=lora_config(r=rank, **config))
    return read_adapter(folder, shape=SHAPE, rules=RULES)
