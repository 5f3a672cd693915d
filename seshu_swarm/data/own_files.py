"""Files of own rows, line by line: .jsonl, .csv, .parquet, and .txt in pieces.

A *line* is its number with a table, or with the bytes of a JSON object. Nothing is held but the
line at hand, however large the file. Knows no rows.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seshu_swarm.errors import DataError, from_os_error

PIECE_BYTES = 1_000
CSV_FIELD_BYTES = 1 << 20

Lines = Iterator[tuple[int, bytes | Mapping[str, Any]]]


def lines_of(path: Path) -> Lines:
    """Lines of a file of own rows. Raises DataError (another kind, broken), ResourceError."""
    if path.suffix not in READERS:
        raise DataError(f"{path} is a {path.suffix or 'nameless'} file", rule=" ".join(READERS))
    try:
        yield from READERS[path.suffix](path)
    except OSError as error:
        raise from_os_error(error, str(path)) from error


def _json_lines(path: Path) -> Lines:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _text_lines(path: Path) -> Iterator[str]:
    """Lines as text, with their ends. Raises DataError naming the line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise DataError(
                    f"{path} line {number}: not UTF-8",
                    rule="text is UTF-8",
                    way_out="convert the file",
                ) from None


def _csv_lines(path: Path) -> Lines:
    csv.field_size_limit(CSV_FIELD_BYTES)
    reader = csv.DictReader(_text_lines(path), restkey="(too many)")
    try:
        for table in reader:
            yield reader.line_num, table
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {error}", rule="CSV, UTF-8") from None


def _parquet_lines(path: Path) -> Lines:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1_024):
            for table in batch.to_pylist():
                number += 1
                yield number, table
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is not Parquet: {error}", rule="a .parquet file") from None


def _pieces(path: Path) -> Lines:
    """Neighbouring lines up to about a kilobyte; an empty line ends a piece."""
    piece: list[str] = []
    size_bytes = number = 0
    for number, end in enumerate(_text_lines(path), start=1):
        line = end.rstrip("\r\n")
        if piece and (not line.strip() or size_bytes + len(line.encode()) > PIECE_BYTES):
            yield number - len(piece), {"output": "\n".join(piece)}
            piece, size_bytes = [], 0
        if line.strip():
            piece.append(line)
            size_bytes += len(line.encode())
    if piece:
        yield number + 1 - len(piece), {"output": "\n".join(piece)}


READERS: dict[str, Callable[[Path], Lines]] = {
    ".jsonl": _json_lines,
    ".csv": _csv_lines,
    ".parquet": _parquet_lines,
    ".txt": _pieces,
}
