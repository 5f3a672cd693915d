"""A donor's own rows: .jsonl, .csv, .parquet or .txt, a folder of such, or a Hub data set.

`columns` maps our names (instruction, input, output, language) to the file's. Plain text becomes
rows without a question, about `PIECE_BYTES` each. Knows no splits; nothing read here is sent away.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seshu_swarm.data.jsonl import BadRows, collect, numbered_lines, text_at
from seshu_swarm.data.text import Row, check_language
from seshu_swarm.errors import DataError, UsageError, from_os_error

KEYS = ("instruction", "input", "output", "language")
SUFFIXES = (".jsonl", ".csv", ".parquet", ".txt")
PIECE_BYTES = 1_000
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

Lines = Iterator[tuple[int, bytes | Mapping[str, Any]]]


def read_rows(
    source: str | Path,
    *,
    language: str,
    columns: Mapping[str, str] | None = None,
    bad_rows: BadRows = "refuse",
) -> list[Row]:
    """Rows of a file, a folder or a Hub data set (`owner/name`), in `language` unless a row says.

    Raises DataError for a source that is missing, empty or of another kind and for an unreadable
    row (source, line, what), UsageError for a wrong column map.
    """
    make = _maker(check_language(language), columns or {})
    path = Path(source)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix in SUFFIXES and f.is_file())
        rows = [row for file in files for row in _read_file(file, make, bad_rows)]
    elif path.is_file():
        rows = _read_file(path, make, bad_rows)
    elif HUB_ID.fullmatch(str(source)):
        rows = collect(str(source), stream_dataset(str(source)), make, bad_rows=bad_rows)
    else:
        raise DataError(
            f"{source} is not there",
            rule="give a file, a folder, or a Hub data set as OWNER/NAME",
            way_out="check the path",
        )
    if not rows:
        raise DataError(f"{source} holds no rows", rule=f"it needs {', '.join(SUFFIXES)} with text")
    return rows


def _maker(language: str, columns: Mapping[str, str]) -> Callable[[Mapping[str, Any]], Row]:
    for key in columns:
        if key not in KEYS:
            raise UsageError(f"column map names {key!r}", rule=f"it may name {', '.join(KEYS)}")
    name = {key: columns.get(key, key) for key in KEYS}

    def optional(table: Mapping[str, Any], key: str) -> str:
        # Absent or null is empty, unless the donor named the column.
        if key not in columns and table.get(name[key]) is None:
            return ""
        return text_at(table, name[key], may_be_empty=True)

    def make(table: Mapping[str, Any]) -> Row:
        instruction, input = optional(table, "instruction"), optional(table, "input")
        output = text_at(table, name["output"])
        return Row(instruction, input, output, optional(table, "language") or language)

    return make


def _read_file(
    path: Path, make: Callable[[Mapping[str, Any]], Row], bad_rows: BadRows
) -> list[Row]:
    readers = {".jsonl": _json_lines, ".csv": _csv_lines, ".txt": _pieces}
    try:
        if path.suffix == ".parquet":
            return collect(str(path), _parquet_lines(path), make, bad_rows=bad_rows)
        reader = readers[path.suffix]
        return collect(str(path), reader(str(path), path.read_bytes()), make, bad_rows=bad_rows)
    except KeyError:
        raise DataError(f"{path} is a {path.suffix} file", rule=" ".join(SUFFIXES)) from None
    except OSError as error:
        raise from_os_error(error, str(path)) from error


def _json_lines(source: str, data: bytes) -> Lines:
    yield from numbered_lines(data)


def _decode(source: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source} line {line}: not UTF-8", rule="text is UTF-8", way_out="convert the file"
        ) from None


def _csv_lines(source: str, data: bytes) -> Lines:
    reader = csv.DictReader(io.StringIO(_decode(source, data), newline=""), restkey="(too many)")
    try:
        for table in reader:
            yield reader.line_num, table
    except csv.Error as error:
        raise DataError(f"{source} line {reader.line_num}: {error}", rule="CSV, UTF-8") from None


def _parquet_lines(path: Path) -> Lines:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for table in batch.to_pylist():
                number += 1
                yield number, table
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is not Parquet: {error}", rule="a .parquet file") from None


def _pieces(source: str, data: bytes) -> Lines:
    """Neighbouring lines up to about a kilobyte; an empty line ends a piece."""
    piece: list[str] = []
    for number, line in enumerate([*_decode(source, data).splitlines(), ""], start=1):
        size_bytes = sum(len(part.encode()) for part in (*piece, line))
        if piece and (not line.strip() or size_bytes > PIECE_BYTES):
            text = "\n".join(piece)
            yield number - len(piece), {"output": text}
            piece = []
        if line.strip():
            piece.append(line)


def stream_dataset(name: str, split: str = "train") -> Lines:
    """Rows of a data set on the Hub (or of a local folder, the library's own way), one by one.

    Raises DataError naming the data set and what the library said.
    """
    import datasets

    try:
        tables: Iterable[Mapping[str, Any]] = datasets.load_dataset(
            name, split=split, streaming=True
        )
        yield from enumerate(tables, start=1)
    except Exception as error:  # the library raises its own, the Hub's and pyarrow's errors
        raise DataError(
            f"data set {name!r} cannot be read: {type(error).__name__}: {error}"[:400],
            rule=f"it needs a public split {split!r}",
            way_out="check the name and the connection, or download it and give the folder",
        ) from error
