"""JSON lines, strictly: what cannot be read is named by file and line, or skipped and counted.

One object per line, UTF-8, LF. Knows rows; knows no folder layout.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from seshu_swarm.data.text import Document, Row
from seshu_swarm.errors import DataError, from_os_error

logger = logging.getLogger(__name__)

BadRows = Literal["refuse", "skip"]
Item = TypeVar("Item")
SKIP = "correct the line, or skip such rows with --bad-rows skip"


def bad_row(source: str, line: int, what: str, rule: str) -> DataError:
    """The refusal of one row: `SOURCE line N: what; rule; way out`."""
    return DataError(f"{source} line {line}: {what}", rule=rule, way_out=SKIP)


def read_items(
    path: Path, make: Callable[[Mapping[str, Any]], Item], *, bad_rows: BadRows
) -> list[Item]:
    """`make` of every line of a .jsonl file; empty lines are passed over.

    `make` raises DataError for a table that is no item. Raises DataError naming file and line, or
    with `bad_rows="skip"` logs how many rows were skipped.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise from_os_error(error, str(path)) from error
    return collect(str(path), numbered_lines(data), make, bad_rows=bad_rows)


def numbered_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1 on, without the empty ones."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def parse_table(line: bytes) -> Mapping[str, Any]:
    """One JSON object. Raises DataError."""
    try:
        table = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 at byte {error.start}", rule="text is UTF-8") from None
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "too deep")
        raise DataError(f"not JSON ({reason})", rule="one JSON object per line") from None
    if not isinstance(table, dict):
        raise DataError(f"a {type(table).__name__}, not a table", rule="one JSON object per line")
    return table


def collect(
    source: str,
    lines: Iterable[tuple[int, bytes | Mapping[str, Any]]],
    make: Callable[[Mapping[str, Any]], Item],
    *,
    bad_rows: BadRows,
) -> list[Item]:
    """`make` of each numbered line, which is JSON or a table already.

    A refused line stops all, or is counted and skipped.
    """
    items: list[Item] = []
    refused: list[DataError] = []
    for number, line in lines:
        try:
            items.append(make(parse_table(line) if isinstance(line, bytes) else line))
        except DataError as error:
            refusal = bad_row(source, number, error.what, error.rule)
            if bad_rows == "refuse":
                raise refusal from None
            refused.append(refusal)
    if refused:
        logger.warning("%s: %d rows skipped; the first: %s", source, len(refused), refused[0].what)
    return items


def text_at(table: Mapping[str, Any], key: str, *, may_be_empty: bool = False) -> str:
    """The text under `key`. Raises DataError where it is missing, no text, or blank."""
    if key not in table:
        keys = ", ".join(sorted(map(str, table))[:8])
        raise DataError(f"no key {key!r} (it has {keys})", rule=f"every line has {key!r}")
    value = table[key]
    if not isinstance(value, str):
        raise DataError(f"{key!r} is a {type(value).__name__}", rule=f"{key!r} is text")
    if not may_be_empty and not value.strip():
        raise DataError(f"{key!r} is empty", rule=f"{key!r} holds text")
    return value


def row_of(table: Mapping[str, Any]) -> Row:
    """A row with its four keys; `input` may be empty. Raises DataError."""
    return Row(
        text_at(table, "instruction", may_be_empty=True),
        text_at(table, "input", may_be_empty=True),
        text_at(table, "output"),
        text_at(table, "language"),
    )


def document_of(table: Mapping[str, Any]) -> Document:
    """A document with its three keys. Raises DataError."""
    return Document(text_at(table, "id"), text_at(table, "language"), text_at(table, "text"))


def row_line(row: Row) -> str:
    """A row as one JSON line; `row_of` reads it."""
    table = {"instruction": row.instruction, "input": row.input}
    return _line({**table, "output": row.output, "language": row.language})


def document_line(document: Document) -> str:
    """A document as one JSON line; `document_of` reads it."""
    return _line({"id": document.id, "language": document.language, "text": document.text})


def _line(table: Mapping[str, str]) -> str:
    return json.dumps(table, ensure_ascii=False) + "\n"
