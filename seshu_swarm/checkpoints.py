"""A checkpoint on disk: a package in transformers' layout, one shard for each block.

    config.json                    sizes, as transformers writes them
    model.safetensors.index.json   tensor name → shard
    model-block-00000.safetensors  one block; a peer fetches only those of its span
    model-ends.safetensors         embeddings and final norm (and the head where untied)
    tokenizer_config.json          loads ByT5Tokenizer; generation_config.json
    README.md                      the model card; not in the manifest, so it may be amended

Stock transformers loads the folder without this package. The same tensors give the same bytes and
so the same digest. A folder with one `model.safetensors` and no manifest, as transformers saves
small models, is read too. What is read is checked strictly: digests where there is a manifest,
names, shapes, types, finite values. Knows nothing of rounds and of who publishes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from seshu_swarm import packages
from seshu_swarm.errors import PackageError, UsageError, from_os_error
from seshu_swarm.mamba.ends import Ends
from seshu_swarm.mamba.shape import END_ID, PAD_ID, MambaShape, block_prefix
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.spans import Span

KIND = "checkpoint"
CONFIG = "config.json"
CARD = "README.md"
ENDS_SHARD = "model-ends.safetensors"
WHOLE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_CONFIG_BYTES = 1 << 20
# ByT5's ids: padding, end, unknown, then the 256 bytes; the rest of the vocabulary is spare.
BYTE_VOCAB_SIZE = 259
FLOAT_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def block_shard(block_index: int) -> str:
    return f"model-block-{block_index:05d}.safetensors"


def files_for_span(span: Span) -> list[str]:
    """Names of the files that `load_span` reads, besides the manifest."""
    return [CONFIG, *(block_shard(block_index) for block_index in span)]


def files_for_ends() -> list[str]:
    """Names of the files that `load_ends` reads, besides the manifest."""
    return [CONFIG, ENDS_SHARD]


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
    check_tensors(tensors, shape.all_tensors(), source="the tensors to save")
    partial = folder.with_name(folder.name + ".partial")
    shards = _shards(shape, tensors)
    files = _small_files(shape, shards) | dict(
        byte_tokeniser(shape) if tokeniser is None else tokeniser
    )
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, shard in shards.items():
            (partial / name).write_bytes(safetensors_torch.save(shard, {"format": "pt"}))
        for name, data in files.items():
            (partial / name).write_bytes(data)
        (partial / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, str(partial)) from error
    digest = packages.seal(partial, KIND, [*files, *shards], about)
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


def _small_files(shape: MambaShape, shards: Mapping[str, Mapping[str, Tensor]]) -> dict[str, bytes]:
    index = {
        "metadata": {"total_size": 4 * shape.num_parameters},
        "weight_map": {name: file for file, shard in shards.items() for name in shard},
    }
    generation = {"pad_token_id": PAD_ID, "bos_token_id": PAD_ID, "eos_token_id": END_ID}
    return {
        CONFIG: _json(shape.to_config()),
        INDEX: _json(index),
        "generation_config.json": _json(generation),
    }


def _json(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=2, sort_keys=True) + "\n").encode("utf-8")


def _shards(shape: MambaShape, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Shard's file name → its tensors, float32 and contiguous."""
    shards: dict[str, dict[str, Tensor]] = {}
    for file, names in _names_by_file(shape).items():
        plain = (tensors[name].detach().to("cpu", torch.float32) for name in names)
        shards[file] = {n: t.contiguous() for n, t in zip(names, plain, strict=True)}
    return shards


def _names_by_file(shape: MambaShape) -> dict[str, list[str]]:
    files = {
        block_shard(index): [block_prefix(index) + name for name in shape.block_tensors()]
        for index in range(shape.num_blocks)
    }
    return files | {ENDS_SHARD: list(shape.ends_tensors())}


def read_shape(folder: Path) -> MambaShape:
    """The sizes stated in `config.json`. Raises PackageError."""
    path = folder / CONFIG
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        config = json.loads(data) if len(data) <= MAX_CONFIG_BYTES else None
    except OSError as error:
        raise PackageError(
            f"{folder} has no readable {CONFIG} ({error.strerror})", rule="a checkpoint carries one"
        ) from None
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path} is not JSON: {error}") from None
    if config is None:
        raise PackageError(f"{path} is too large", rule=f"at most {MAX_CONFIG_BYTES} bytes")
    return MambaShape.from_config(config)


def load_span(folder: Path, span: Span) -> SpanModule:
    """The blocks of a span, reading only their shards. Raises PackageError, UsageError."""
    shape = read_shape(folder)
    with torch.device("meta"):
        module = SpanModule(shape, span)
    names = [block_shard(block_index) for block_index in span]
    _fill(module, _read(folder, shape, names), module.checkpoint_tensors)
    return module


def load_ends(folder: Path) -> Ends:
    """Embeddings, final norm and head, reading only their shard. Raises PackageError."""
    shape = read_shape(folder)
    with torch.device("meta"):
        module = Ends(shape)
    _fill(module, _read(folder, shape, [ENDS_SHARD]), module.checkpoint_tensors)
    return module


def load_whole(folder: Path) -> WholeModel:
    """The whole model, without transformers. Raises PackageError."""
    shape = read_shape(folder)
    span = load_span(folder, Span(0, shape.num_blocks))
    return WholeModel(shape, ends=load_ends(folder), span=span)


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor by its global name, float32. Raises PackageError."""
    shape = read_shape(folder)
    return _read(folder, shape, list(_names_by_file(shape)))


def _fill(
    module: nn.Module, tensors: Mapping[str, Tensor], parameters: Callable[[], dict[str, Tensor]]
) -> None:
    """Give a module made on the meta device memory, and copy the tensors into it."""
    module.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in parameters().items():
            parameter.copy_(tensors[name])


def _read(folder: Path, shape: MambaShape, shards: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of the named shards, verified and checked."""
    wanted = _names_by_file(shape)
    sizes = shape.all_tensors()
    if (folder / packages.MANIFEST).exists():
        _verify(folder, [CONFIG, *shards])
    elif (folder / WHOLE_FILE).is_file():
        names = [name for shard in shards for name in wanted[shard]]
        return _read_file(folder / WHOLE_FILE, {n: sizes[n] for n in names}, whole=sizes)
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        expected = {name: sizes[name] for name in wanted[shard]}
        tensors |= _read_file(folder / shard, expected, whole=expected)
    return tensors


def _verify(folder: Path, names: Sequence[str]) -> None:
    manifest = packages.read_manifest(folder)
    missing = [name for name in names if name not in manifest.files]
    if manifest.kind != KIND or missing:
        raise PackageError(
            f"{folder} is a {manifest.kind!r} without {', '.join(missing) or 'blocks'}"[:300],
            rule="a checkpoint's manifest names its config, a shard for each block, and the ends",
        )
    packages.verify(folder, names=names)


def _read_file(
    path: Path, expected: Mapping[str, tuple[int, ...]], *, whole: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The expected tensors of a file that holds exactly the names of `whole`."""
    try:
        with safe_open(path, framework="pt") as file:
            _check_names(set(file.keys()), set(whole), source=str(path))
            tensors = {name: file.get_tensor(name) for name in expected}
    except (SafetensorError, OSError) as error:
        raise PackageError(
            f"{path} is not readable: {error}"[:300], rule="a shard is a whole safetensors file"
        ) from None
    check_tensors(tensors, expected, source=str(path))
    return {name: tensor.float() for name, tensor in tensors.items()}


def _check_names(found: set[str], expected: set[str], *, source: str) -> None:
    if found != expected:
        odd = min(found ^ expected)
        kind = "lacks" if odd in expected else "has the extra tensor"
        raise PackageError(
            f"{source} {kind} {odd}"[:300], rule=f"exactly the {len(expected)} of its config.json"
        )


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], *, source: str
) -> None:
    """Names, shapes, floating-point types and finite values. Raises PackageError."""
    _check_names(set(tensors), set(expected), source=source)
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected[name] or tensor.dtype not in FLOAT_TYPES:
            raise PackageError(
                f"{source}: {name} is {tensor.dtype} {tuple(tensor.shape)}",
                rule=f"floating point {expected[name]}",
            )
        if not bool(torch.isfinite(tensor).all()):
            raise PackageError(
                f"{source}: {name} holds infinite or undefined numbers", rule="finite weights only"
            )
