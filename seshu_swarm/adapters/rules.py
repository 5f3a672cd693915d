"""What an adapter may contain: limits of a run, and the tensors that follow from the model's shape.

LoRA is allowed on the three projections that the unfused mixer reads through their modules.
`dt_proj`, the convolution, the embeddings and the head are not: LoRA there is invisible before the
merge, or wrong after it when the head is tied to the embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.mamba.shape import MambaShape, block_prefix

TARGETS = ("in_proj", "x_proj", "out_proj")
CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
ALLOWED_FILES = frozenset({CONFIG_FILE, TENSOR_FILE, "README.md"})
KIND = "adapter"
KEY_PREFIX = "base_model.model."
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, kw_only=True)
class AdapterRules:
    """A run's limits. `max_scale` bounds alpha / r; `max_delta_norm` the Frobenius norm of ΔW."""

    max_rank: int = 64
    max_scale: float = 4.0
    max_file_bytes: int = 256 << 20
    max_header_bytes: int = 1 << 20
    max_config_bytes: int = 64 << 10
    max_delta_norm: float = 1e6


def module_name(block_index: int, target: str) -> str:
    """Global name of a targeted module."""
    return f"{block_prefix(block_index)}mixer.{target}"


def expected_tensors(
    targets: tuple[str, ...], rank: int, shape: MambaShape
) -> dict[str, tuple[int, int]]:
    """Every key that the file must hold, and no other, with its shape."""
    expected: dict[str, tuple[int, int]] = {}
    sizes = shape.block_tensors()
    for block_index in range(shape.num_blocks):
        for target in targets:
            rows, columns = sizes[f"mixer.{target}.weight"]
            key = KEY_PREFIX + module_name(block_index, target)
            expected[f"{key}.lora_A.weight"] = (rank, columns)
            expected[f"{key}.lora_B.weight"] = (rows, rank)
    return expected
