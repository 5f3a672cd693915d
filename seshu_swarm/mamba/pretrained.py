"""What both transformers classes share: configuration, loading, saving, fresh weights.

They have their own `model_type`, so that peft puts LoRA on `in_proj`, `x_proj` and `out_proj` (it
refuses `out_proj` on `mamba`). `from_pretrained` reads `mamba` folders; `save_pretrained` writes
them, so stock transformers loads what is published.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import MambaConfig, PreTrainedModel
from transformers import initialization as init

from seshu_swarm.errors import PackageError, UsageError, from_os_error, shown
from seshu_swarm.mamba.ends import EMBEDDING_STD
from seshu_swarm.mamba.mixer import MambaMixer
from seshu_swarm.mamba.norm import RMSNorm
from seshu_swarm.mamba.shape import WAY_OUT, MambaShape

LORA_TARGETS = ("in_proj", "x_proj", "out_proj")
# The arguments of from_pretrained that say which files of a repository are meant.
WHICH_FILES = (
    *("cache_dir", "force_download", "local_files_only", "proxies"),
    *("revision", "subfolder", "token"),
)
FLOATS = ("float32", "float16", "bfloat16", "float64")
STORED_FLOATS = ("F32", "F16", "BF16", "F64")
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
        another architecture, files that cannot be read, tensors of other names, shapes and types
        than the model's, and numbers that are not finite; UsageError for what names no model.
        """
        source = pretrained_model_name_or_path
        if "torch_dtype" not in kwargs:  # its name before transformers 5
            kwargs.setdefault("dtype", torch.float32)
        kwargs["config"] = _config(source, kwargs)
        wants_info = kwargs.pop("output_loading_info", False)
        may_differ = kwargs.pop("ignore_mismatched_sizes", False)
        _check_types(source, kwargs.get("subfolder") or "")
        try:
            model, info = super().from_pretrained(
                source, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except (OSError, SafetensorError) as error:
            raise _unreadable(source, error) from error
        _check_loaded(model, info if not may_differ else info | {"mismatched_keys": ()}, source)
        loaded: Any = (model, info) if wants_info else model
        return loaded  # type: ignore[no-any-return]

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:
        """Writes the layout of the stock class, config included.

        Raises UsageError for a file in the folder's place, DiskFullError and ResourceError.
        """
        _check_saving(save_directory, kwargs)
        try:
            super().save_pretrained(save_directory, **kwargs)
            self._write_config(Path(save_directory) / "config.json")
        except OSError as error:
            raise from_os_error(error, str(save_directory)) from error

    def _write_config(self, path: Path) -> None:
        fields = self.config.to_shape().to_config()
        fields |= {name: getattr(self.config, name) for name in TOKEN_IDS}
        fields["architectures"] = [type(self).__name__.removeprefix("Seshu")]
        fields["dtype"] = str(self.dtype).removeprefix("torch.")
        text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
        path.write_text(text, encoding="utf-8")


def _config(source: Any, given: dict[str, Any]) -> SeshuMambaConfig:
    """The one given to from_pretrained, or that of the folder. Raises PackageError, UsageError."""
    config = given.get("config")
    if isinstance(config, SeshuMambaConfig):
        return config
    if isinstance(config, MambaConfig):
        return _our_config(config.to_dict(), "the config given")
    place = source if config is None else config
    if not isinstance(place, str | PathLike):
        raise UsageError(
            f"a model at {shown(place)}", rule="a folder, or a repository's name on the Hub"
        )
    which = {name: given[name] for name in WHICH_FILES if name in given}
    try:
        found = MambaConfig.get_config_dict(place, **which)[0]
    except Exception as error:
        # A stranger's JSON meets transformers, which looks into it before it checks anything.
        raise _unreadable(place, error) from error
    if not (isinstance(found, dict) and found):
        raise PackageError(
            f"{place} has no config.json, or one without sizes",
            rule="a model's folder carries one",
            way_out="check the path",
        )
    return _our_config(found, str(place))


def _our_config(found: Mapping[str, Any], source: str) -> SeshuMambaConfig:
    """Of a folder's config.json. Raises PackageError for another architecture."""
    if found.get("model_type") == SeshuMambaConfig.model_type:
        found = {**found, "model_type": "mamba"}
    shape = MambaShape.from_config(found, source=f"{source}, config.json")
    kept = {name: found[name] for name in TOKEN_IDS if name in found}
    for name, value in kept.items():
        _check_token_id(name, value, shape.vocab_size, source)
    dtype = found.get("dtype") or found.get("torch_dtype") or "float32"
    if str(dtype).removeprefix("torch.") not in FLOATS:
        raise PackageError(
            f"{source}: dtype {shown(dtype)}", rule="one of " + ", ".join(FLOATS), way_out=WAY_OUT
        )
    return SeshuMambaConfig.from_shape(shape, dtype=dtype, **kept)


def _check_token_id(name: str, value: Any, vocab_size: int, source: str) -> None:
    ids = value if name == "eos_token_id" and isinstance(value, list) else [value]
    if not all(one is None or (type(one) is int and 0 <= one < vocab_size) for one in ids):
        raise PackageError(
            f"{source}: {name} {value!r}"[:200],
            rule=f"a token id from 0 to {vocab_size - 1}",
            way_out=WAY_OUT,
        )


def _check_types(source: Any, subfolder: str) -> None:
    """Numbers of a folder that are no floating-point ones, which would be converted silently."""
    if not isinstance(source, str | PathLike):
        return
    for path in sorted(Path(source, subfolder).glob("model*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise _unreadable(path, error) from error
        wrong = [name for name, stored in types.items() if stored not in STORED_FLOATS]
        if wrong:
            raise PackageError(
                f"{path}: {shown(wrong[0])} is of type {types[wrong[0]]}",
                rule="one of " + ", ".join(STORED_FLOATS),
                way_out="save the model in float32 first",
            )


def _unreadable(source: Any, error: Exception) -> PackageError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return PackageError(
        f"no readable model at {source}: {reason}"[:400],
        rule="a folder as save_pretrained writes it, or a repository's name on the Hub",
        way_out="check the path or the name; fetch or copy the files again",
    )


def _check_saving(folder: str | PathLike[str], options: dict[str, Any]) -> None:
    if os.path.isfile(folder):
        raise UsageError(f"a file at {folder}", rule="save_pretrained writes a folder")
    if options.get("push_to_hub"):
        raise UsageError(
            "save_pretrained(push_to_hub=True)",
            rule="config.json gets its last form after the files would be sent",
            way_out="model.push_to_hub(repo_id), which sends what was saved whole",
        )


def _check_loaded(model: PreTrainedModel, info: dict[str, Any], source: Any) -> None:
    for fault in ("missing", "unexpected", "mismatched"):
        found = info[f"{fault}_keys"]
        if found:
            raise PackageError(
                f"{source}: {fault} tensors {sorted(found)}"[:500],
                rule="exactly the tensors that the sizes in config.json ask for",
                way_out="fetch or copy the files again, all from one revision",
            )
    for name, parameter in model.named_parameters():
        if not (parameter.is_meta or bool(torch.isfinite(parameter).all())):
            raise PackageError(
                f"{source}: {name} holds infinite or undefined numbers",
                rule="finite weights only",
                way_out="use an earlier checkpoint",
            )
