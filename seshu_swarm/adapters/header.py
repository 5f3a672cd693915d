"""Our own check of a safetensors header, before any library sees the file.

Layout (safetensors, format section): 8 bytes little-endian header length, a JSON table
`name → {dtype, shape, data_offsets}`, then the data. The tensors must tile the data exactly, in
the order of their offsets: no overlap, no hole, nothing after the last one.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

from seshu_swarm.adapters.refusals import AdapterRefusal, refuse
from seshu_swarm.adapters.rules import DTYPE_BYTES

LENGTH_BYTES = 8
MAX_DIMENSION = 1 << 31
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the header; `[start, end)` are bytes of the data section."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def parse_header(data: bytes, *, max_header_bytes: int) -> dict[str, TensorEntry]:
    """Name → entry of every tensor in the file. Raises AdapterError."""
    length = _header_length(data, max_header_bytes)
    table = _read_json(data[LENGTH_BYTES : LENGTH_BYTES + length])
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise refuse(AdapterRefusal.BAD_HEADER, "__metadata__ is not a table of text")
    entries = {name: _entry(name, value) for name, value in table.items()}
    _check_tiling(entries, len(data) - LENGTH_BYTES - length)
    return entries


def _header_length(data: bytes, max_header_bytes: int) -> int:
    if len(data) < LENGTH_BYTES:
        raise refuse(AdapterRefusal.TRUNCATED, f"tensor file of {len(data)} bytes")
    (length,) = struct.unpack_from("<Q", data)
    if length > max_header_bytes:
        # A pickle read as safetensors claims a header of exabytes: name what it really is.
        if data.startswith(PICKLE_STARTS):
            raise refuse(AdapterRefusal.PICKLE, "the tensor file is a pickle or a zip archive")
        raise refuse(
            AdapterRefusal.HEADER_TOO_LARGE,
            f"header of {length} bytes",
            rule=f"at most {max_header_bytes}",
        )
    if length > len(data) - LENGTH_BYTES:
        raise refuse(AdapterRefusal.TRUNCATED, f"header of {length} bytes in {len(data)} bytes")
    return int(length)


def _read_json(text: bytes) -> dict[str, Any]:
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise refuse(AdapterRefusal.BAD_HEADER, f"header is not JSON: {error}") from None
    if not isinstance(table, dict):
        raise refuse(AdapterRefusal.BAD_HEADER, "header is not a table")
    return table


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name appears twice")
    return table


def _entry(name: str, value: Any) -> TensorEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise refuse(AdapterRefusal.BAD_HEADER, f"entry {name!r} is malformed")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise refuse(AdapterRefusal.BAD_HEADER, f"entry {name!r} has no plain shape and offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise refuse(
            AdapterRefusal.WRONG_DTYPE,
            f"{name} is {dtype!r}",
            rule="one of " + ", ".join(DTYPE_BYTES),
        )
    start, end = offsets
    if end - start != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise refuse(
            AdapterRefusal.BAD_HEADER,
            f"{name} of shape {shape} takes bytes {start}:{end}",
            rule="size is the product of the shape",
        )
    return TensorEntry(dtype, tuple(shape), start, end)


def _are_counts(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= 4
        and all(type(value) is int and 0 <= value < MAX_DIMENSION for value in values)
    )


def _check_tiling(entries: dict[str, TensorEntry], data_bytes: int) -> None:
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start < position:
            raise refuse(
                AdapterRefusal.OVERLAPPING_TENSORS,
                f"{name} starts at byte {entry.start}",
                rule=f"the tensor before it ends at {position}",
            )
        if entry.start > position:
            raise refuse(AdapterRefusal.BAD_HEADER, f"hole of bytes before {name}")
        position = entry.end
    if position > data_bytes:
        raise refuse(
            AdapterRefusal.TRUNCATED, f"{data_bytes} bytes of data", rule=f"{position} expected"
        )
    if position < data_bytes:
        raise refuse(AdapterRefusal.BAD_HEADER, f"{data_bytes - position} bytes after the tensors")
