"""Raw rows of a piece: texts with their language, and rows that cannot be read, each by name.

Nothing is held but the row at hand, however large the source. Raises DataError only where the
source as a whole cannot be read. Knows no cleaning.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from seshu_swarm.data.building.lines import Line, lines_of, paragraphs_of
from seshu_swarm.data.building.pieces import Piece, check_columns
from seshu_swarm.data.building.tally import Bad
from seshu_swarm.data.hub_rows import Part, stream_dataset, subset_of
from seshu_swarm.data.jsonl import parse_table
from seshu_swarm.errors import DataError

BOM = b"\xef\xbb\xbf"
ROWS_PER_BATCH = 256


@dataclass(frozen=True)
class Raw:
    """`place` names the row for people: FILE byte N, or FILE row N."""

    place: str
    language: str
    text: str


Rows = Iterator[Raw | Bad]


def rows_of(piece: Piece, *, max_line_bytes: int, seed: int) -> Rows:
    """Rows of the piece in the source's order, at most its `max_rows`."""
    if piece.source.kind == "phrasebook":
        found = _phrasebook_rows(piece, seed)
    elif piece.source.kind in ("hub", "samanantar"):
        found = _hub_rows(piece)
    else:
        found = READERS[piece.source.kind](piece, max_line_bytes)
    yield from islice(found, piece.source.max_rows)


def _phrasebook_rows(piece: Piece, seed: int) -> Rows:
    from seshu_swarm.data import phrasebook

    language = piece.language or ""
    for document in phrasebook.build([language], seed).documents.get(language, ()):
        yield Raw(document.id, language, document.text)


def _hub_rows(piece: Piece) -> Rows:
    source = piece.source
    part = subset_of(source.path, piece.language or "", Part(source.split, source.subset))
    for number, table in stream_dataset(source.path, part):
        if isinstance(table, bytes):
            continue
        if number == 1:
            check_columns(source, source.path, list(table))
        yield _raw(piece, f"{source.path} row {number}", table)


def _json_rows(piece: Piece, max_line_bytes: int) -> Rows:
    for line in lines_of(Path(piece.path), piece.start, piece.end, max_bytes=max_line_bytes):
        place = _place(piece, line)
        if line.data is None:
            yield Bad("line_too_long", place, f"more than {max_line_bytes} bytes")
        elif line.data.strip():
            yield _json_row(piece, place, line.data)


def _json_row(piece: Piece, place: str, data: bytes) -> Raw | Bad:
    try:
        return _raw(piece, place, parse_table(data.removeprefix(BOM)))
    except DataError as error:
        reason = "not_utf8" if error.what.startswith("not UTF-8") else "not_json"
        return Bad(reason, place, error.what)


def _text_rows(piece: Piece, max_line_bytes: int) -> Rows:
    read = lines_of if piece.source.records == "lines" else paragraphs_of
    for record in read(Path(piece.path), piece.start, piece.end, max_bytes=max_line_bytes):
        place = _place(piece, record)
        if record.data is None:
            yield Bad("line_too_long", place, f"more than {max_line_bytes} bytes")
            continue
        if not record.data.strip():
            continue
        try:
            text = record.data.removeprefix(BOM).decode("utf-8")
        except UnicodeDecodeError as error:
            yield Bad("not_utf8", place, f"not UTF-8 at byte {error.start}")
            continue
        yield Raw(place, piece.source.language or "", text)


def _csv_rows(piece: Piece, max_line_bytes: int) -> Rows:
    csv.field_size_limit(max_line_bytes)
    bad: list[Bad] = []
    reader = csv.DictReader(_csv_lines(piece, max_line_bytes, bad), restkey=None)
    while True:
        try:
            table = next(reader, None)
        except csv.Error as error:
            table = None
            bad.append(Bad("not_csv", f"{piece.file} line {reader.line_num}", str(error)))
            yield from _emptied(bad)
            continue
        yield from _emptied(bad)
        if table is None:
            return
        place = f"{piece.file} line {reader.line_num}"
        if None in table or None in table.values():
            yield Bad("wrong_columns", place, "more or fewer fields than the header has")
        else:
            yield _raw(piece, place, table)


def _emptied(bad: list[Bad]) -> Iterator[Bad]:
    yield from bad
    bad.clear()


def _csv_lines(piece: Piece, max_line_bytes: int, bad: list[Bad]) -> Iterator[str]:
    """Lines as text; those that are none go into `bad`, and the rows they belong to miss them."""
    for line in lines_of(Path(piece.path), 0, piece.size_bytes, max_bytes=max_line_bytes):
        place = _place(piece, line)
        if line.data is None:
            bad.append(Bad("line_too_long", place, f"more than {max_line_bytes} bytes"))
            continue
        try:
            yield line.data.decode("utf-8-sig" if line.at == 0 else "utf-8") + "\n"
        except UnicodeDecodeError as error:
            bad.append(Bad("not_utf8", place, f"not UTF-8 at byte {error.start}"))


def _parquet_rows(piece: Piece, max_line_bytes: int) -> Rows:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    source = piece.source
    columns = [column for column in (source.text, source.language_column) if column]
    try:
        file = pyarrow.parquet.ParquetFile(piece.path)
        groups = list(range(piece.start, piece.end))
        number = 0
        for batch in file.iter_batches(ROWS_PER_BATCH, row_groups=groups, columns=columns):
            for table in batch.to_pylist():
                number += 1
                yield _raw(piece, f"{piece.file} group {piece.start} row {number}", table)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"source {source.name!r}: {piece.path} cannot be read: {error}", rule="a Parquet file"
        ) from None


def _raw(piece: Piece, place: str, table: Mapping[str, Any]) -> Raw | Bad:
    """A table as a row; the reason where it has no text or no language."""
    source = piece.source
    text = table.get(source.text)
    if source.text not in table:
        keys = ", ".join(sorted(map(str, table))[:8])
        return Bad("no_text_column", place, f"no column {source.text!r} (it has {keys})")
    if not isinstance(text, str):
        return Bad("text_is_no_text", place, f"{source.text!r} is a {type(text).__name__}")
    language: Any = piece.language or source.language
    if source.language_column:
        language = table.get(source.language_column, language)
    if not isinstance(language, str):
        return Bad("no_language", place, f"column {source.language_column!r} names none")
    return Raw(place, language, text)


def _place(piece: Piece, line: Line) -> str:
    return f"{piece.file} byte {line.at}"


READERS: dict[str, Callable[[Piece, int], Rows]] = {
    "jsonl": _json_rows,
    "text": _text_rows,
    "csv": _csv_rows,
    "parquet": _parquet_rows,
}
