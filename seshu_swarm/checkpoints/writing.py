"""Write a checkpoint: it appears whole or not at all, and the same tensors give the same digest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors_torch
from torch import Tensor

from seshu_swarm import packages
from seshu_swarm.checkpoints.layout import CARD, CONFIG, INDEX, KIND, check_names, names_by_file
from seshu_swarm.checkpoints.tensor_file import check_finite, count_bad
from seshu_swarm.errors import PackageError, UsageError, from_os_error
from seshu_swarm.mamba.shape import END_ID, PAD_ID, MambaShape

# ByT5's ids: padding, end, unknown, then the 256 bytes; the rest of the vocabulary is spare.
BYTE_VOCAB_SIZE = 259
# float64 too: what was computed in it (a merge) is rounded once, here.
FLOAT_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def save_checkpoint(
    folder: Path,
    *,
    shape: MambaShape,
    tensors: Mapping[str, Tensor],
    about: dict[str, Any],
    card: str,
    tokeniser: Mapping[str, bytes] | None = None,
) -> str:
    """Write a checkpoint in float32 and return its digest; `folder` appears whole or not at all.

    `tensors` are named as in `MambaShape.all_tensors`. `tokeniser` maps file names to bytes and
    replaces the byte-level one. Raises PackageError if tensors do not fit the shape or if the
    folder already holds another checkpoint, UsageError, DiskFullError, ResourceError.
    """
    _check_tensors(tensors, shape.all_tensors(), source="the model to save")
    partial = folder.with_name(folder.name + ".partial")
    names = names_by_file(shape)
    files = _small_files(shape, names) | dict(
        byte_tokeniser(shape) if tokeniser is None else tokeniser
    )
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for shard, shard_names in names.items():
            (partial / shard).write_bytes(_shard({n: tensors[n] for n in shard_names}))
        for name, data in files.items():
            (partial / name).write_bytes(data)
        (partial / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, str(partial)) from error
    digest = packages.seal(partial, KIND, [*files, *names], about)
    packages.publish_folder(partial, folder)
    packages.read_manifest(folder, digest)
    return digest


def byte_tokeniser(shape: MambaShape) -> dict[str, bytes]:
    """Files with which AutoTokenizer loads ByT5Tokenizer. Raises UsageError."""
    if shape.vocab_size < BYTE_VOCAB_SIZE:
        raise UsageError(
            f"a vocabulary of {shape.vocab_size} for the byte-level tokeniser",
            rule=f"{BYTE_VOCAB_SIZE} ids or more: three special ones and 256 bytes",
        )
    config = {
        "tokenizer_class": "ByT5Tokenizer",
        "extra_ids": shape.vocab_size - BYTE_VOCAB_SIZE,
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    return {"tokenizer_config.json": _json(config)}


def _small_files(shape: MambaShape, names: Mapping[str, list[str]]) -> dict[str, bytes]:
    index = {
        "metadata": {"total_size": 4 * shape.num_parameters},
        "weight_map": {name: file for file, shard in names.items() for name in shard},
    }
    generation = {"pad_token_id": PAD_ID, "bos_token_id": PAD_ID, "eos_token_id": END_ID}
    return {
        CONFIG: _json(shape.to_config()),
        INDEX: _json(index),
        "generation_config.json": _json(generation),
    }


def _json(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=2, sort_keys=True) + "\n").encode("utf-8")


def _shard(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a shard; one at a time, so that no second copy of the model is in memory."""
    plain = {n: t.detach().to("cpu", torch.float32).contiguous() for n, t in tensors.items()}
    data: bytes = safetensors_torch.save(plain, {"format": "pt"})
    return data


def _check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], *, source: str
) -> None:
    """Names, shapes, floating-point types and finite values. Raises PackageError."""
    check_names(tensors, expected, source=source)
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected[name] or tensor.dtype not in FLOAT_TYPES:
            raise PackageError(
                f"{source}: {name} is {tensor.dtype} {tuple(tensor.shape)}",
                rule=f"floating point {expected[name]}",
            )
        check_finite(count_bad(tensor), tensor.numel(), source=f"{source}: {name}")
