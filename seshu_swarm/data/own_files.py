"""Files of own rows, line by line: .jsonl, .csv, .parquet, and .txt in pieces.

A *line* is its number with a table, or with the bytes of a JSON object. Nothing is held but the
line at hand, however large the file. Knows no rows.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unicodedata import category

from seshu_swarm.data.text import nfc
from seshu_swarm.errors import DataError, from_os_error

# A row without a question, its end token included, fits into the 512 tokens at which rows are cut.
PIECE_BYTES = 500
CSV_FIELD_BYTES = 1 << 20
# Key of what a line of CSV holds beyond its columns; the reader of rows refuses such a line.
TOO_MANY = "(more fields than columns)"

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
    reader = csv.DictReader(_text_lines(path), restkey=TOO_MANY)
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
    """Neighbouring lines in at most PIECE_BYTES; an empty line ends a piece, a longer one is cut."""
    first, piece, size_bytes = 0, list[str](), 0
    for number, line in enumerate(_text_lines(path), start=1):
        # NFC first: it makes some letters longer.
        for part in _parts(nfc(line).rstrip("\r\n")):
            part_bytes = len(part.encode()) + 1
            if piece and (not part or size_bytes + part_bytes > PIECE_BYTES + 1):
                yield first, {"output": "\n".join(piece)}
                piece, size_bytes = [], 0
            if part:
                first = first if piece else number
                piece.append(part)
                size_bytes += part_bytes
    if piece:
        yield first, {"output": "\n".join(piece)}


def _parts(line: str) -> Iterator[str]:
    """The line in parts of at most PIECE_BYTES, cut at a space where there is one; "" if blank."""
    if not line.strip():
        yield ""
        return
    start = 0
    while start < len(line):
        head = line[start : start + PIECE_BYTES].encode()[:PIECE_BYTES].decode(errors="ignore")
        if start + len(head) < len(line):
            head = head[: _last_boundary(head)]
        start += len(head)
        if head.strip():
            yield head.rstrip()


def _last_boundary(head: str) -> int:
    """Where `head` is best cut: after its last space, else before a letter with all its marks."""
    if space := head.rfind(" ") + 1:
        return space
    letters = (i for i in range(len(head) - 1, 0, -1) if not category(head[i]).startswith("M"))
    return next(letters, len(head))


READERS: dict[str, Callable[[Path], Lines]] = {
    ".jsonl": _json_lines,
    ".csv": _csv_lines,
    ".parquet": _parquet_lines,
    ".txt": _pieces,
}
