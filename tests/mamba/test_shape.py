"""Sizes of a model, read from a config.json that may come from anyone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from seshu_swarm.errors import PackageError
from seshu_swarm.mamba.shape import MambaShape

SHAPE = MambaShape(d_model=48, num_blocks=3, vocab_size=400, d_state=8, dt_rank=5)


def test_config_round_trip() -> None:
    assert MambaShape.from_config(SHAPE.to_config()) == SHAPE


def test_derived_sizes() -> None:
    shape = MambaShape(d_model=100, num_blocks=1)
    assert (shape.d_inner, shape.dt_rank) == (200, 7)


def test_number_of_parameters_counts_the_named_tensors() -> None:
    """By hand, for d_model 2, d_inner 4, d_state 16, d_conv 4, dt_rank 1, vocabulary 384."""
    block = 2 + 4 * 16 + 4 + 4 * 4 + 4 + 8 * 2 + 33 * 4 + 4 + 4 + 2 * 4
    assert MambaShape(d_model=2, num_blocks=3).num_parameters == 3 * block + 384 * 2 + 2


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mamba2"},
        {"model_type": None},
        {"hidden_size": 0},
        {"hidden_size": 10**9},
        {"hidden_size": "48"},
        {"hidden_size": 48.0},
        {"hidden_size": True},
        {"num_hidden_layers": -1},
        {"vocab_size": 10**12},
        {"state_size": 10_000},
        {"conv_kernel": 1},
        {"time_step_rank": "many"},
        {"intermediate_size": 100},
        {"layer_norm_epsilon": 0.0},
        {"layer_norm_epsilon": float("nan")},
        {"hidden_act": "gelu"},
        {"use_bias": True},
        {"use_conv_bias": False},
        {"tie_word_embeddings": "yes"},
        {"auto_map": {"AutoModel": "evil--code"}},
        {"hidden_size": 65_536, "num_hidden_layers": 1_024, "intermediate_size": 131_072},
    ],
)
def test_hostile_configs_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PackageError):
        MambaShape.from_config(SHAPE.to_config() | change)


def test_missing_sizes_are_named() -> None:
    config = SHAPE.to_config()
    del config["state_size"]
    with pytest.raises(PackageError, match="state_size"):
        MambaShape.from_config(config)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("seshu_swarm.mamba.shape", ["torch", "transformers"]),
        ("seshu_swarm.checkpoints", ["transformers", "peft", "datasets"]),
    ],
)
def test_imports_stay_light(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {absent} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
