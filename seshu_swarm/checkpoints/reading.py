"""A span, the ends or the whole model, from only the files and bytes that it needs.

Modules are made without memory and without random weights; every header is checked before memory
is taken, so that no config.json alone can make a peer allocate. Peak memory is the size of what is
loaded and a buffer of a mebibyte. Knows no network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seshu_swarm import packages
from seshu_swarm.checkpoints.layout import (
    CONFIG,
    ENDS_SHARD,
    KIND,
    WHOLE_FILE,
    names_by_file,
    span_shards,
)
from seshu_swarm.checkpoints.tensor_file import WAY_OUT, TensorFile
from seshu_swarm.errors import PackageError
from seshu_swarm.mamba.ends import Ends
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.spans import Span

MAX_CONFIG_BYTES = 1 << 20


def read_shape(folder: Path) -> MambaShape:
    """The sizes stated in `config.json`. Raises PackageError."""
    path = folder / CONFIG
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        config = json.loads(data) if len(data) <= MAX_CONFIG_BYTES else None
    except OSError as error:
        raise PackageError(
            f"{folder} has no readable {CONFIG} ({error.strerror})",
            rule="a checkpoint carries one",
            way_out="check the path of the folder",
        ) from None
    except (ValueError, RecursionError) as error:
        raise PackageError(
            f"{path} is not JSON: {error}"[:300], rule="one table of sizes", way_out=WAY_OUT
        ) from None
    if config is None:
        raise PackageError(
            f"{path} is too large", rule=f"at most {MAX_CONFIG_BYTES} bytes", way_out=WAY_OUT
        )
    return MambaShape.from_config(config, source=str(path))


def load_span(folder: Path, span: Span) -> SpanModule:
    """The blocks of a span, reading only their tensors. Raises PackageError, UsageError."""
    shape = read_shape(folder)
    with torch.device("meta"):
        module = SpanModule(shape, span)
    _fill(module, _tensor_files(folder, shape, span_shards(span)))
    return module


def load_ends(folder: Path) -> Ends:
    """Embeddings, final norm and head, reading only their tensors. Raises PackageError."""
    shape = read_shape(folder)
    with torch.device("meta"):
        module = Ends(shape)
    _fill(module, _tensor_files(folder, shape, [ENDS_SHARD]))
    return module


def load_whole(folder: Path) -> WholeModel:
    """The whole model, without transformers. Raises PackageError."""
    return StoredTensors.open(folder).load_whole()


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor by its global name, float32. Raises PackageError."""
    stored = StoredTensors.open(folder)
    sizes = stored.shape.all_tensors()
    tensors = {n: torch.empty(s, dtype=torch.float32) for n, s in sizes.items()}
    stored.read_into(tensors)
    return tensors


@dataclass(frozen=True)
class StoredTensors:
    """All tensors of a checkpoint where they lie: verified once, then read as often as wanted."""

    shape: MambaShape
    files: tuple[TensorFile, ...]

    @classmethod
    def open(cls, folder: Path) -> StoredTensors:
        """Check digests and headers; nothing is loaded. Raises PackageError."""
        shape = read_shape(folder)
        return cls(shape, tuple(_tensor_files(folder, shape, list(names_by_file(shape)))))

    def load_whole(self) -> WholeModel:
        """The whole model. Raises PackageError."""
        with torch.device("meta"):
            model = WholeModel(self.shape)
        _fill(model, self.files)
        return model

    def read_into(self, destinations: Mapping[str, Tensor]) -> None:
        """Read the named tensors into contiguous float32 ones. Raises PackageError."""
        try:
            _read(self.files, destinations)
        except OSError as error:
            raise PackageError(
                f"{error.filename} is not readable any more: {error.strerror}",
                rule="a checkpoint in use stays where it is",
                way_out=WAY_OUT,
            ) from None


def _fill(module: SpanModule | Ends | WholeModel, files: Sequence[TensorFile]) -> None:
    """Give a module made on the meta device memory, and read its tensors into it."""
    module.to_empty(device="cpu")
    _read(files, module.checkpoint_tensors())


def _read(files: Sequence[TensorFile], destinations: Mapping[str, Tensor]) -> None:
    for file in files:
        file.read_into({n: t for n, t in destinations.items() if n in file.entries})


def _tensor_files(folder: Path, shape: MambaShape, shards: Sequence[str]) -> list[TensorFile]:
    """The files in which the tensors of the named shards lie, verified and with checked headers."""
    sizes, names = shape.all_tensors(), names_by_file(shape)
    if (folder / packages.MANIFEST).exists():
        _verify(folder, [CONFIG, *shards])
    elif (folder / WHOLE_FILE).is_file():
        return [TensorFile.open(folder / WHOLE_FILE, sizes)]
    return [TensorFile.open(folder / s, {n: sizes[n] for n in names[s]}) for s in shards]


def _verify(folder: Path, names: Sequence[str]) -> None:
    manifest = packages.read_manifest(folder)
    missing = [name for name in names if name not in manifest.files]
    if manifest.kind != KIND or missing:
        raise PackageError(
            f"{folder} is a {manifest.kind!r} without {', '.join(missing) or 'blocks'}"[:300],
            rule="a checkpoint's manifest names its config, a shard for each block, and the ends",
            way_out=WAY_OUT,
        )
    packages.verify(folder, names=names)
