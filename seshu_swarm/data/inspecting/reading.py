"""Items of any file of text, one by one: documents, rows, pairs, talks; what is broken is named.

    .jsonl .json .csv .parquet    text | instruction, input, output | src, tgt | messages
    .txt                          one item per line

An item's language is the one it names, else that of its file's name (`hi.jsonl`, `en-hi.jsonl`,
`pretrain-hi-003.jsonl`), else `und`. Nothing is held but the item at hand. Knows no statistics.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm.data.building.lines import lines_of
from seshu_swarm.data.building.tally import Bad
from seshu_swarm.data.jsonl import parse_table
from seshu_swarm.data.own_files import TOO_MANY, elements_of, is_array
from seshu_swarm.data.text import LANGUAGE, SURROGATE, nfc
from seshu_swarm.errors import DataError, from_os_error

MAX_LINE_BYTES = 16 << 20
UNDETERMINED = "und"
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")
NAMED = re.compile(r"(?:pretrain-|en-)?([a-z]{2,3})(?:-\d+)?")
# Where the text of an item is, in the order in which they are looked for.
TEXT_KEYS = ("text", "output", "tgt")
ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value")
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Item:
    """`text` is the scored text, in NFC; `before` is what stands before it: a question, a source.

    `place` names the item for people; `at` is how far into its file it lies, from 0 to 1.
    """

    place: str
    language: str
    text: str
    before: str = ""
    at: float = 0.0


def files_of(source: Path) -> list[Path]:
    """The file, or the folder's files of text, sorted. Raises DataError where there are none."""
    if source.is_file():
        if source.suffix not in SUFFIXES:
            raise DataError(f"{source} is no file of text", rule=" ".join(SUFFIXES))
        return [source]
    if not source.is_dir():
        raise DataError(
            f"{source} is not there", rule="a file or a folder", way_out="check the path"
        )
    found = [p for p in sorted(source.rglob("*")) if p.suffix in SUFFIXES and p.is_file()]
    # Beside texts lie .json files that are none: manifests, books.
    found = [p for p in found if p.suffix != ".json" or is_array(p)]
    # Unfinished work of a build lies in hidden folders.
    found = [p for p in found if not any(x.startswith(".") for x in p.relative_to(source).parts)]
    if not found:
        raise DataError(f"{source} holds no files of text", rule=" ".join(SUFFIXES))
    return found


def items_of(file: Path, *, column: str = "") -> Iterator[Item | Bad]:
    """Items of a file and what is broken in it; `column` names where the text is.

    Raises DataError for a file that is no file of its kind as a whole, ResourceError.
    """
    readers = {
        ".json": _array_tables,
        ".csv": _csv_tables,
        ".parquet": _parquet_tables,
        ".txt": _text_tables,
    }
    named = NAMED.fullmatch(file.stem)
    language = named[1] if named else UNDETERMINED
    try:
        for at, place, table in readers.get(file.suffix, _json_tables)(file):
            if isinstance(table, Bad):
                yield table
            else:
                yield item_of(table, place, language, column=column, at=at)
    except OSError as error:
        raise from_os_error(error, str(file)) from error


Tables = Iterator[tuple[float, str, "Mapping[str, Any] | Bad"]]


def item_of(
    table: Mapping[str, Any], place: str, language: str, *, column: str = "", at: float = 0.0
) -> Item | Bad:
    """A table as an item, or why it is none."""
    if TOO_MANY in table:
        return Bad("too_many_fields", place, "a field with a comma is quoted")
    found = _texts(table, column)
    if found is None:
        keys = ", ".join(sorted(map(str, table))[:8])
        return Bad("unknown_columns", place, f"no text (it has {keys})")
    before, text = found
    if not isinstance(text, str) or not isinstance(before, str):
        return Bad("text_is_no_text", place, f"a {type(text).__name__}")
    if SURROGATE.search(text) or SURROGATE.search(before):
        return Bad("not_utf8", place, "a character that has no UTF-8 form")
    if not text.strip():
        return Bad("empty_text", place)
    named = table.get("language")
    is_named = isinstance(named, str) and LANGUAGE.fullmatch(named)
    return Item(place, str(named) if is_named else language, nfc(text), nfc(before), at)


def _texts(table: Mapping[str, Any], column: str) -> tuple[Any, Any] | None:
    """(what stands before, the text); None where no known column is there."""
    if column:
        return ("", table[column]) if column in table else None
    key = next((key for key in TEXT_KEYS if key in table), None)
    if key == "tgt":
        return table.get("src") or "", table["tgt"]
    if key == "output":
        parts = [table.get(name) or "" for name in ("instruction", "input")]
        return "\n".join(str(part) for part in parts if part), table["output"]
    if key == "text":
        return "", table["text"]
    talk = table.get("messages", table.get("conversations"))
    if isinstance(talk, Sequence) and not isinstance(talk, str):
        return "", "\n".join(_contents(talk))
    return None


def _contents(talk: Sequence[Any]) -> Iterator[str]:
    for message in talk:
        if isinstance(message, Mapping):
            content = next((message[key] for key in CONTENT_KEYS if key in message), "")
            yield content if isinstance(content, str) else ""


def _json_tables(file: Path) -> Tables:
    for at, place, data in _lines(file):
        if isinstance(data, Bad):
            yield at, place, data
            continue
        try:
            yield at, place, parse_table(data)
        except DataError as error:
            reason = "not_utf8" if error.what.startswith("not UTF-8") else "not_json"
            yield at, place, Bad(reason, place, error.what)


def _array_tables(file: Path) -> Tables:
    """Elements of a JSON array; how far they lie in the file is not known."""
    if not is_array(file):
        yield from _json_tables(file)
        return
    for number, table in elements_of(file):
        yield 0.0, f"{file.name} element {number}", table


def _text_tables(file: Path) -> Tables:
    for at, place, data in _lines(file):
        if isinstance(data, Bad):
            yield at, place, data
            continue
        try:
            yield at, place, {"text": data.decode("utf-8")}
        except UnicodeDecodeError as error:
            what = f"not UTF-8 at byte {error.start}"
            yield at, place, Bad("not_utf8", place, what)


def _lines(file: Path) -> Iterator[tuple[float, str, bytes | Bad]]:
    """Lines that are not blank, without a byte order mark."""
    size_bytes = max(1, file.stat().st_size)
    lines = lines_of(file, 0, size_bytes, max_bytes=MAX_LINE_BYTES)
    for number, line in enumerate(lines, start=1):
        at, place = line.at / size_bytes, f"{file.name} line {number}"
        if line.data is None:
            yield at, place, Bad("line_too_long", place, f"more than {MAX_LINE_BYTES} bytes")
        elif data := line.data.removeprefix(BOM).strip():
            yield at, place, data


def _csv_tables(file: Path) -> Tables:
    csv.field_size_limit(MAX_LINE_BYTES)
    size_bytes = max(1, file.stat().st_size)
    # Bytes that are no UTF-8 become lone surrogates, which `item_of` names.
    with file.open("rb") as raw:
        text = io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.DictReader(text, restkey=TOO_MANY)
        while True:
            place = f"{file.name} line {reader.line_num + 1}"
            try:
                table = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield 0.0, place, Bad("not_csv", place, str(error))
                continue
            yield raw.tell() / size_bytes, place, table


def _parquet_tables(file: Path) -> Tables:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        num_rows, number = max(1, parquet.metadata.num_rows), 0
        for batch in parquet.iter_batches(256):
            for table in batch.to_pylist():
                number += 1
                yield number / num_rows, f"{file.name} row {number}", table
    except pyarrow.ArrowException as error:
        raise DataError(f"{file} is not Parquet: {error}", rule="a .parquet file") from None
