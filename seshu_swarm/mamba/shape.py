"""The sizes of a Mamba model, and the names and shapes of its tensors.

Reads a transformers `config.json` that may come from anyone and writes one that stock transformers
loads. Knows nothing of tensors' values and does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seshu_swarm.errors import PackageError, shown

PAD_ID = 0
END_ID = 1

# The largest sizes that are accepted from a config.json: ten times those of any published Mamba,
# small enough that no field alone can make a peer allocate without bound.
LIMITS = {
    "d_model": 65_536,
    "num_blocks": 1_024,
    "vocab_size": 1_048_576,
    "d_state": 256,
    "d_conv": 16,
    "expand": 8,
    "dt_rank": 65_536,
}
MAX_PARAMETERS = 50_000_000_000
WAY_OUT = "choose a folder that MambaForCausalLM of transformers has saved"

# Options of transformers' MambaConfig that would change the computation, with the one value the
# blocks implement.
_FIXED_OPTIONS: dict[str, Any] = {
    "hidden_act": "silu",
    "use_bias": False,
    "use_conv_bias": True,
    "quantization_config": None,
    "auto_map": None,
}
_CONFIG_NAMES = {
    "d_model": "hidden_size",
    "num_blocks": "num_hidden_layers",
    "vocab_size": "vocab_size",
    "d_state": "state_size",
    "d_conv": "conv_kernel",
    "expand": "expand",
}


@dataclass(frozen=True, kw_only=True)
class MambaShape:
    """Sizes as in mamba_ssm. `dt_rank` 0 becomes ceil(d_model / 16). Raises PackageError."""

    d_model: int
    num_blocks: int
    vocab_size: int = 384
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int = 0
    norm_epsilon: float = 1e-5
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.dt_rank == 0 and type(self.d_model) is int:
            object.__setattr__(self, "dt_rank", math.ceil(self.d_model / 16))
        for name, most in LIMITS.items():
            least = 2 if name == "d_conv" else 1
            _check_size(name, getattr(self, name), least, most)
        if not (isinstance(self.norm_epsilon, float) and 0 < self.norm_epsilon < 0.1):
            raise PackageError(f"norm epsilon {shown(self.norm_epsilon)}", rule="between 0 and 0.1")
        if type(self.tie_embeddings) is not bool:
            raise PackageError(f"tie_embeddings {shown(self.tie_embeddings)}", rule="true or false")
        if self.num_parameters > MAX_PARAMETERS:
            raise PackageError(
                f"a model of {self.num_parameters} parameters", rule=f"at most {MAX_PARAMETERS}"
            )

    @property
    def d_inner(self) -> int:
        return self.expand * self.d_model

    @property
    def num_parameters(self) -> int:
        block = sum(map(math.prod, self.block_tensors().values()))
        return self.num_blocks * block + sum(map(math.prod, self.ends_tensors().values()))

    def block_tensors(self) -> dict[str, tuple[int, ...]]:
        """Name inside a block → shape, as stock transformers saves them."""
        return {
            "norm.weight": (self.d_model,),
            "mixer.A_log": (self.d_inner, self.d_state),
            "mixer.D": (self.d_inner,),
            "mixer.conv1d.weight": (self.d_inner, 1, self.d_conv),
            "mixer.conv1d.bias": (self.d_inner,),
            "mixer.in_proj.weight": (2 * self.d_inner, self.d_model),
            "mixer.x_proj.weight": (self.dt_rank + 2 * self.d_state, self.d_inner),
            "mixer.dt_proj.weight": (self.d_inner, self.dt_rank),
            "mixer.dt_proj.bias": (self.d_inner,),
            "mixer.out_proj.weight": (self.d_model, self.d_inner),
        }

    def ends_tensors(self) -> dict[str, tuple[int, ...]]:
        """Global name → shape of the tensors outside the blocks; the head only where untied."""
        tensors: dict[str, tuple[int, ...]] = {
            "backbone.embeddings.weight": (self.vocab_size, self.d_model),
            "backbone.norm_f.weight": (self.d_model,),
        }
        if not self.tie_embeddings:
            tensors["lm_head.weight"] = (self.vocab_size, self.d_model)
        return tensors

    def all_tensors(self) -> dict[str, tuple[int, ...]]:
        """Global name → shape of every tensor of the model."""
        block = self.block_tensors()
        tensors = {
            block_prefix(block_index) + name: size
            for block_index in range(self.num_blocks)
            for name, size in block.items()
        }
        return tensors | self.ends_tensors()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, source: str = "config.json") -> MambaShape:
        """Read a transformers `config.json` that may come from anyone. Raises PackageError."""
        try:
            return cls._read(config)
        except PackageError as error:
            raise PackageError(
                f"{source}: {error.what}"[:300], rule=error.rule, way_out=WAY_OUT
            ) from None

    @classmethod
    def _read(cls, config: Mapping[str, Any]) -> MambaShape:
        if not isinstance(config, Mapping) or config.get("model_type") != "mamba":
            found = config.get("model_type") if isinstance(config, Mapping) else config
            raise PackageError(
                f"model type {shown(found)}", rule="a checkpoint's config says 'mamba'"
            )
        _check_options(config)
        sizes = {name: _required(config, key) for name, key in _CONFIG_NAMES.items()}
        dt_rank = config.get("time_step_rank", "auto")
        shape = cls(
            **sizes,
            dt_rank=0 if dt_rank == "auto" else dt_rank,
            norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
            tie_embeddings=config.get("tie_word_embeddings", True),
        )
        if config.get("intermediate_size", shape.d_inner) != shape.d_inner:
            raise PackageError(
                f"intermediate_size {shown(config['intermediate_size'])}",
                rule=f"expand * hidden_size = {shape.d_inner}",
            )
        return shape

    def to_config(self) -> dict[str, Any]:
        """A transformers `config.json` with which stock MambaForCausalLM loads the tensors."""
        sizes = {key: getattr(self, name) for name, key in _CONFIG_NAMES.items()}
        return {
            "architectures": ["MambaForCausalLM"],
            "model_type": "mamba",
            "dtype": "float32",
            **sizes,
            "intermediate_size": self.d_inner,
            "time_step_rank": self.dt_rank,
            "layer_norm_epsilon": self.norm_epsilon,
            "tie_word_embeddings": self.tie_embeddings,
            "hidden_act": "silu",
            "use_bias": False,
            "use_conv_bias": True,
            "residual_in_fp32": True,
            "pad_token_id": PAD_ID,
            "bos_token_id": PAD_ID,
            "eos_token_id": END_ID,
        }


def block_prefix(block_index: int) -> str:
    """What precedes a block's tensor names in a checkpoint, ending in a dot."""
    return f"backbone.layers.{block_index}."


def _check_size(name: str, value: object, least: int, most: int) -> None:
    if not (type(value) is int and least <= value <= most):
        raise PackageError(f"{name} {shown(value)}", rule=f"a whole number from {least} to {most}")


def _check_options(config: Mapping[str, Any]) -> None:
    for key, implemented in _FIXED_OPTIONS.items():
        if config.get(key, implemented) != implemented:
            raise PackageError(
                f"config option {key} = {shown(config[key])}",
                rule=f"the engine implements {key} = {implemented!r} only",
            )


def _required(config: Mapping[str, Any], key: str) -> Any:
    if key not in config:
        raise PackageError(f"config without {key}", rule="all sizes of the model are stated")
    return config[key]
