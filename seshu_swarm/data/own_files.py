"""Files of own rows, line by line: .jsonl, .json, .csv, .parquet, and .txt in pieces.

A *line* is its number with a table, or with the bytes of a JSON object. Nothing is held but the
line at hand, however large the file. Knows no rows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO
from unicodedata import category

from seshu_swarm.data.text import nfc
from seshu_swarm.errors import DataError, from_os_error

# A row without a question, its end token included, fits into the 512 tokens at which rows are cut.
PIECE_BYTES = 500
CSV_FIELD_BYTES = 1 << 20
BLOCK_CHARACTERS = 1 << 16
ELEMENT_CHARACTERS = 1 << 24
BOM = b"\xef\xbb\xbf"
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


def is_array(path: Path) -> bool:
    """Whether a file begins as a JSON array does. Raises ResourceError."""
    try:
        with path.open("rb") as file:
            return file.read(64).removeprefix(BOM).lstrip()[:1] == b"["
    except OSError as error:
        raise from_os_error(error, str(path)) from error


def _json_array(path: Path) -> Lines:
    """Elements of one JSON array, as Alpaca's file is, or lines as in .jsonl."""
    if not is_array(path):
        yield from _json_lines(path)
    else:
        yield from elements_of(path)


def elements_of(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Numbered tables of a JSON array. Raises DataError where it is broken or holds others."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        found = _elements(file, str(path))
        for number, element in enumerate(found, start=1):
            if not isinstance(element, dict):
                raise DataError(
                    f"{path} element {number}: a {type(element).__name__}, not a table",
                    rule="an array of objects",
                )
            yield number, element


def _elements(file: TextIO, source: str) -> Iterator[Any]:
    """Elements as they are complete; held is the one at hand, and what was read with it."""
    decoder, text, at = json.JSONDecoder(), file.read(BLOCK_CHARACTERS), 0
    at = text.index("[") + 1
    is_whole = False
    while True:
        while at < len(text) and (text[at].isspace() or text[at] == ","):
            at += 1
        if text[at : at + 1] == "]":
            return
        try:
            element, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            block = "" if is_whole else file.read(max(BLOCK_CHARACTERS, len(text)))
            is_whole = not block
            if is_whole or len(text) - at > ELEMENT_CHARACTERS:
                reason = getattr(error, "msg", "too deep")
                raise DataError(
                    f"{source} is no JSON array ({reason})", rule="[{…}, {…}, …], UTF-8"
                ) from None
            text, at = text[at:] + block, 0
            continue
        yield element
        at = end


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
    ".json": _json_array,
    ".csv": _csv_lines,
    ".parquet": _parquet_lines,
    ".txt": _pieces,
}
