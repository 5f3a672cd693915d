"""What both transformers classes share: configuration, loading, saving, fresh weights.

They have their own `model_type`, so that peft puts LoRA on `in_proj`, `x_proj` and `out_proj` (it
refuses `out_proj` on `mamba`). `from_pretrained` reads `mamba` folders; `save_pretrained` writes
them, so stock transformers loads what is published.
"""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import MambaConfig, PreTrainedModel
from transformers import initialization as init

from seshu_swarm.errors import PackageError
from seshu_swarm.mamba.ends import EMBEDDING_STD
from seshu_swarm.mamba.mixer import MambaMixer
from seshu_swarm.mamba.norm import RMSNorm
from seshu_swarm.mamba.shape import MambaShape

LORA_TARGETS = ("in_proj", "x_proj", "out_proj")
TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")


class SeshuMambaConfig(MambaConfig):
    """MambaConfig under a name of its own, which peft and the Auto classes go by."""

    model_type = "seshu_mamba"

    @classmethod
    def from_shape(cls, shape: MambaShape, **others: Any) -> SeshuMambaConfig:
        fields = shape.to_config() | others
        del fields["model_type"], fields["architectures"]
        return cls(**fields)

    def to_shape(self) -> MambaShape:
        """Raises PackageError for what the blocks do not implement."""
        return MambaShape.from_config(self.to_dict() | {"model_type": "mamba"})


class SeshuMambaPreTrainedModel(PreTrainedModel):
    """Loading, saving and fresh weights of both classes."""

    config_class = SeshuMambaConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ("SeshuMambaBlock",)
    _is_stateful = True

    @property
    def is_gradient_checkpointing(self) -> bool:
        # peft asks for it; transformers' own property of that name warns since 5.23.
        return any(getattr(module, "gradient_checkpointing", False) for module in self.modules())

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The functions of `init` leave alone what was loaded.
        match module:
            case MambaMixer():
                fresh = MambaMixer(module.shape)
                for name, parameter in module.named_parameters():
                    init.copy_(parameter, fresh.get_parameter(name))
            case RMSNorm():
                init.ones_(module.weight)
            case nn.Embedding():
                init.normal_(module.weight, std=EMBEDDING_STD)
            case nn.Linear() if module is getattr(self, "lm_head", None):
                init.normal_(module.weight, std=EMBEDDING_STD)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Self:
        """As in transformers, in float32 unless `dtype` says otherwise.

        With `output_loading_info` a pair of the model and what transformers says of its loading.

        A `mamba` folder's configuration changes its class on the way. Raises PackageError for
        another architecture, missing tensors and tensors that the model does not have.
        """
        if "torch_dtype" not in kwargs:  # its name before transformers 5
            kwargs.setdefault("dtype", torch.float32)
        if kwargs.get("config") is None:
            found = MambaConfig.get_config_dict(pretrained_model_name_or_path)[0]
            kwargs["config"] = _our_config(found)
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
        )
        _check_loaded(model, info, pretrained_model_name_or_path)
        loaded: Any = (model, info) if wants_info else model
        return loaded  # type: ignore[no-any-return]

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:
        """Writes the layout of the stock class, config included."""
        super().save_pretrained(save_directory, **kwargs)
        fields = self.config.to_shape().to_config()
        fields |= {name: getattr(self.config, name) for name in TOKEN_IDS}
        fields["architectures"] = [type(self).__name__.removeprefix("Seshu")]
        fields["dtype"] = str(self.dtype).removeprefix("torch.")
        text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
        (Path(save_directory) / "config.json").write_text(text, encoding="utf-8")


def _our_config(found: dict[str, Any]) -> SeshuMambaConfig:
    """Of a folder's config.json. Raises PackageError for another architecture."""
    if found.get("model_type") == SeshuMambaConfig.model_type:
        found = found | {"model_type": "mamba"}
    shape = MambaShape.from_config(found)
    kept = {name: found[name] for name in TOKEN_IDS if name in found}
    dtype = found.get("dtype") or found.get("torch_dtype") or "float32"
    return SeshuMambaConfig.from_shape(shape, dtype=dtype, **kept)


def _check_loaded(model: PreTrainedModel, info: dict[str, Any], source: Any) -> None:
    for fault in ("missing_keys", "unexpected_keys"):
        if info[fault]:
            raise PackageError(
                f"{source}: {fault.replace('_keys', '')} tensors {sorted(info[fault])}"[:500],
                rule="exactly the tensors that the sizes in config.json ask for",
            )
    for name, parameter in model.named_parameters():
        if not (parameter.is_meta or bool(torch.isfinite(parameter).all())):
            raise PackageError(f"{source}: {name} holds infinite or undefined numbers")
