"""One safetensors file: its header is checked before anything is allocated, then read in pieces.

Layout (safetensors, format section): 8 bytes little-endian header length, a JSON table
`name → {dtype, shape, data_offsets}`, then the data, which the tensors fill without hole or
overlap.

A tensor goes from the file straight into the memory where it will stay, by way of one small buffer
that also converts and checks it. A mapped file would be shorter to write, but costs the memory
twice while it is copied; and a model left on the mapping would crash with the file cut short and
change with its bytes. Knows nothing of models: names and shapes are given.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seshu_swarm.checkpoints.layout import check_names
from seshu_swarm.errors import PackageError, shown

LENGTH_BYTES = 8
# Ten times what the names of the largest model that is accepted take.
MAX_HEADER_BYTES = 16 << 20
# What becomes float32 without loss. float64 would be rounded silently, so it is refused.
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Numbers of the buffer: 1 MiB of float32 stays in the cache between reading, checking and copying.
PIECE = 1 << 18
WHOLE_RULE = "a shard is a whole safetensors file"
WAY_OUT = "fetch or copy the file again"


@dataclass(frozen=True)
class TensorEntry:
    """One tensor; `start` is the offset of its first byte in the data section."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class TensorFile:
    """A file whose header is what it should be; its numbers are not read yet."""

    path: Path
    data_start: int
    entries: Mapping[str, TensorEntry]

    @classmethod
    def open(cls, path: Path, expected: Mapping[str, tuple[int, ...]]) -> TensorFile:
        """Check that the file holds exactly the expected tensors. Raises PackageError."""
        try:
            with path.open("rb") as file:
                file_bytes = os.fstat(file.fileno()).st_size
                header = file.read(_header_bytes(file, file_bytes, path))
        except OSError as error:
            raise PackageError(
                f"{path} is not readable: {error.strerror}", rule=WHOLE_RULE, way_out=WAY_OUT
            ) from None
        table = _parse(header, path)
        check_names(table, expected, source=str(path))
        entries = {n: _entry(f"{path}: {n}", table[n], expected[n]) for n in expected}
        data_start = LENGTH_BYTES + len(header)
        _check_tiling(entries, file_bytes - data_start, path)
        return cls(path, data_start, entries)

    def read_into(self, destinations: Mapping[str, Tensor]) -> None:
        """Read the named tensors, and nothing else, into contiguous float32 ones of their shapes.

        Raises PackageError for numbers that are not finite, and where the file was cut meanwhile.
        """
        with self.path.open("rb") as file:
            for name in sorted(destinations, key=lambda name: self.entries[name].start):
                entry, source = self.entries[name], f"{self.path}: {name}"
                file.seek(self.data_start + entry.start)
                num_bad = _read_numbers(file, entry, destinations[name].detach().view(-1), source)
                check_finite(num_bad, math.prod(entry.shape), source=source)


def check_finite(num_bad: int, num_all: int, *, source: str) -> None:
    """Raises PackageError if any of the numbers of a tensor is infinite or undefined."""
    if num_bad:
        raise PackageError(
            f"{source} holds {num_bad} infinite or undefined numbers of {num_all}",
            rule="finite weights only",
            way_out="use an earlier checkpoint",
        )


def count_bad(numbers: Tensor) -> int:
    """How many are infinite or undefined."""
    return numbers.numel() - int(numbers.isfinite().count_nonzero())


def _read_numbers(file: BufferedReader, entry: TensorEntry, flat: Tensor, source: str) -> int:
    """Fill `flat` from here on; how many numbers are infinite or undefined."""
    buffer = torch.empty(min(PIECE, flat.numel()), dtype=entry.dtype)
    num_bad = 0
    for part in flat.split(PIECE):
        piece = buffer[: part.numel()]
        # A buffered reader falls short only at the end of the file.
        if file.readinto(piece.view(torch.uint8).numpy().data) != piece.nbytes:
            raise PackageError(f"{source} ends early", rule=WHOLE_RULE, way_out=WAY_OUT)
        part.copy_(piece)
        num_bad += count_bad(piece)
    return num_bad


def _header_bytes(file: BufferedReader, file_bytes: int, path: Path) -> int:
    """The length of the header, which must lie inside the file."""
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if length > min(file_bytes - LENGTH_BYTES, MAX_HEADER_BYTES):
        raise PackageError(
            f"{path} of {file_bytes} bytes states a header of {length} bytes",
            rule=f"a header lies inside the file and has at most {MAX_HEADER_BYTES}",
            way_out=WAY_OUT,
        )
    return length


def _parse(header: bytes, path: Path) -> dict[str, Any]:
    """The table of a header without its metadata."""
    try:
        table = json.loads(header.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise PackageError(
            f"{path}: the header is not JSON: {error}"[:300], rule=WHOLE_RULE, way_out=WAY_OUT
        ) from None
    if not isinstance(table, dict):
        raise PackageError(
            f"{path}: the header is {shown(table)}", rule="a table of tensors", way_out=WAY_OUT
        )
    table.pop("__metadata__", None)
    return table


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers differ on which of two entries counts, so one file could be two models.
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name appears twice")
    return table


def _entry(source: str, value: Any, shape: tuple[int, ...]) -> TensorEntry:
    """The entry of a tensor that must have this shape; the size it states must be its size."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise PackageError(
            f"{source} is {shown(value)}", rule="dtype, shape and data_offsets", way_out=WAY_OUT
        )
    dtype, sizes, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise PackageError(
            f"{source} is of type {shown(dtype)}",
            rule="one of " + ", ".join(DTYPES) + ", which become float32 without loss",
            way_out="save the model in float32 first",
        )
    if not _are_whole(sizes) or tuple(sizes) != shape:
        raise PackageError(
            f"{source} has shape {_listed(sizes)}",
            rule=f"{list(shape)} by the sizes in config.json",
            way_out=WAY_OUT,
        )
    if not _are_whole(offsets) or len(offsets) != 2:
        raise PackageError(
            f"{source} lies at {_listed(offsets)}", rule="two offsets in bytes", way_out=WAY_OUT
        )
    entry = TensorEntry(DTYPES[dtype], shape, offsets[0])
    if offsets[1] - offsets[0] != entry.num_bytes:
        raise PackageError(
            f"{source} of shape {list(shape)} lies at {_listed(offsets)}",
            rule=f"it takes {entry.num_bytes} bytes",
            way_out=WAY_OUT,
        )
    return entry


def _are_whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _listed(values: Any) -> str:
    return str(values)[:80] if _are_whole(values) else shown(values)


def _check_tiling(entries: Mapping[str, TensorEntry], data_bytes: int, path: Path) -> None:
    """Each tensor begins where the one before it ends, and the last one ends with the file."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start != position:
            raise PackageError(
                f"{path}: {name} starts at byte {entry.start}",
                rule=f"the tensor before it ends at {position}",
                way_out=WAY_OUT,
            )
        position += entry.num_bytes
    if position != data_bytes:
        raise PackageError(
            f"{path} holds {data_bytes} bytes of numbers",
            rule=f"its header states {position}",
            way_out=WAY_OUT,
        )
