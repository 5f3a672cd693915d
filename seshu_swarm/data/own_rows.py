"""A donor's own rows: a file, a folder of such, a run's folder, or a Hub data set.

`columns` maps our names to the source's. A table with `src` and `tgt`, as Samanantar's are, is a
pair: English and the language; pairs become translation rows, a quarter of them also back into
English. A talk (`messages`) becomes a row for each of its answers. Plain text becomes rows without a question. Knows no splits; nothing read here is sent
away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from seshu_swarm.data.folder import read_folder, translation_rows
from seshu_swarm.data.hub_rows import Part, stream_dataset, subset_of
from seshu_swarm.data.instructions.chat import TALK_KEYS, talk_rows
from seshu_swarm.data.jsonl import BadRows, collect, text_at
from seshu_swarm.data.own_files import READERS, TOO_MANY, Lines, is_array, lines_of
from seshu_swarm.data.scripts import language_of_answer
from seshu_swarm.data.text import Row, check_language, nfc
from seshu_swarm.errors import DataError, UsageError

ROW_KEYS = ("instruction", "input", "output", "language")
PAIR_KEYS = ("src", "tgt")
FIELDS = (*ROW_KEYS, *PAIR_KEYS, "messages")
RUN_FOLDERS = ("pretrain", "sft", "parallel")
HUB_MAX_ROWS = 20_000
PAIR_FILE = re.compile(r"en-([a-z]{2,3})")
# Owners have no dots: ./rows and ../rows are folders.
HUB_ID = re.compile(r"[\w-]+/\w[\w.-]*")
FILES = (*READERS, ".tsv", ".xlsx", ".xml", ".md", ".html", ".gz", ".zip")

Pair = tuple[str, str]
Made = list[Row] | Pair
Make = Callable[[Mapping[str, Any]], Made]


def read_rows(
    source: str | Path,
    *,
    language: str,
    columns: Mapping[str, str] | None = None,
    bad_rows: BadRows = "refuse",
    max_rows: int | None = None,
    part: Part | None = None,
) -> list[Row]:
    """Rows of the source in `language` unless a row says; `max_rows` of it are read at most.

    Without `max_rows` all of a file or a folder is read, and `HUB_MAX_ROWS` of a Hub data set
    (`owner/name`), whose `part` is streamed. Raises DataError for a source that is missing, empty
    or of another kind and for an unreadable row (source, line, what), UsageError for a wrong
    column map.
    """
    make, path = _maker(check_language(language), columns or {}), Path(source)
    if not columns and any((path / name).is_dir() for name in RUN_FOLDERS):
        return list(read_folder(path, [language], bad_rows=bad_rows).rows[language])[:max_rows]
    rows: list[Row] = []
    pairs: list[Pair] = []
    if is_hub_name(source) and max_rows is None:
        max_rows = HUB_MAX_ROWS
    for name, lines in _sources(str(source), language, part or Part()):
        left = None if max_rows is None else max(0, max_rows - len(rows) - len(pairs))
        for made in collect(name, islice(lines, left), make, bad_rows=bad_rows):
            if isinstance(made, tuple):
                pairs.append(made)
            else:
                rows += made
    rows = rows[:max_rows] + _translations(pairs, language)
    if not rows:
        raise DataError(f"{source} holds no rows", rule=f"it needs {' '.join(READERS)} with text")
    return rows


def read_pairs(
    source: str | Path,
    *,
    language: str,
    columns: Mapping[str, str] | None = None,
    bad_rows: BadRows = "refuse",
    max_rows: int | None = None,
) -> list[Pair]:
    """(English, native) in the source's order, where the native side is in the language's letters.

    Raises as `read_rows` does, and DataError for a source without pairs.
    """
    make, pairs = _maker(check_language(language), columns or {}), list[Pair]()
    if is_hub_name(source) and max_rows is None:
        max_rows = HUB_MAX_ROWS
    for name, lines in _sources(str(source), language, Part()):
        left = None if max_rows is None else max(0, max_rows - len(pairs))
        made = collect(name, islice(lines, left), make, bad_rows=bad_rows)
        pairs += [pair for pair in made if isinstance(pair, tuple)]
    native = _native(pairs, language)
    if not native:
        raise DataError(
            f"{source} holds no pairs in {language!r}",
            rule="pairs are src (English) and tgt",
            way_out="name their columns: src=COLUMN,tgt=COLUMN",
        )
    return native


def columns_of(text: str) -> dict[str, str]:
    """The column map written as FIELD=COLUMN,…. Raises UsageError."""
    columns = {}
    for part in filter(None, text.split(",")):
        field, equals, column = part.partition("=")
        if not equals:
            raise UsageError(
                f"--columns {part!r}",
                rule="FIELD=COLUMN,…",
                way_out="output=answer,instruction=question",
            )
        columns[field] = column
    return columns


def check_source(
    source: str | Path, *, language: str, columns: Mapping[str, str], bad_rows: BadRows
) -> None:
    """Refuse what needs no reading of the whole: a missing path, a column map that fits no row.

    Of the first file on this machine its first row is made, unless bad rows are skipped; the Hub is
    not asked. Raises as `read_rows` does.
    """
    make, path = _maker(check_language(language), columns), Path(source)
    is_run_folder = not columns and any((path / name).is_dir() for name in RUN_FOLDERS)
    if is_hub_name(source) or is_run_folder:
        return
    for name, lines in islice(_sources(str(source), language, Part()), 1):
        first = islice(lines, 0 if bad_rows == "skip" else 1)
        collect(name, first, make, bad_rows=bad_rows)


def is_hub_name(source: str | Path) -> bool:
    """Whether it is OWNER/NAME and nothing on this machine: never what looks like a file."""
    path = Path(source)
    looks_so = HUB_ID.fullmatch(str(source)) and path.suffix.lower() not in FILES
    return bool(looks_so) and not path.exists()


def _sources(source: str, language: str, part: Part) -> Iterator[tuple[str, Lines]]:
    """Name and lines of each file, or of the data set."""
    path = Path(source)
    if path.is_dir():
        files = (f for f in sorted(path.rglob("*")) if f.suffix in READERS and f.is_file())
        # Beside rows lie .json files that are none: manifests, settings.
        files = (f for f in files if f.suffix != ".json" or is_array(f))
        yield from ((str(f), lines_of(f)) for f in files if _is_wanted(f, language))
    elif path.is_file():
        yield source, lines_of(path)
    elif is_hub_name(source):
        yield source, stream_dataset(source, subset_of(source, language, part))
    else:
        raise DataError(
            f"{source} is not there",
            rule="give a file, a folder, or a Hub data set as OWNER/NAME",
            way_out="check the path",
        )


def _is_wanted(file: Path, language: str) -> bool:
    """In a folder, pairs of another language are passed over: their file's name says so."""
    named = PAIR_FILE.fullmatch(file.stem)
    return named is None or named[1] == language


def _maker(language: str, columns: Mapping[str, str]) -> Make:
    for key in columns:
        if key not in FIELDS:
            rule = f"it may name {', '.join(FIELDS)}"
            way_out = "output=answer,instruction=question"
            raise UsageError(f"column map names {key!r}", rule=rule, way_out=way_out)
    name = {key: columns.get(key, key) for key in FIELDS}
    talk_names = (columns["messages"],) if "messages" in columns else TALK_KEYS

    def optional(table: Mapping[str, Any], key: str) -> str:
        # Absent or null is empty, unless the donor named the column.
        if key not in columns and table.get(name[key]) is None:
            return ""
        return text_at(table, name[key], may_be_empty=True)

    def make(table: Mapping[str, Any]) -> Made:
        if TOO_MANY in table:
            # A comma in an unquoted text: what is in the columns is not what was meant.
            raise DataError("more fields than columns", rule="a field with a comma is quoted")
        if name["output"] not in table and all(name[key] in table for key in PAIR_KEYS):
            return nfc(text_at(table, name["src"])), nfc(text_at(table, name["tgt"]))
        own_language = optional(table, "language") or language
        talk = next((key for key in talk_names if key in table), None)
        if name["output"] not in table and talk is not None:
            return talk_rows(table[talk], own_language)
        if name["output"] not in table:
            raise _no_answer(name["output"], table)
        instruction, input = optional(table, "instruction"), optional(table, "input")
        output = text_at(table, name["output"])
        return [Row(instruction, input, output, own_language)]

    return make


def _no_answer(column: str, table: Mapping[str, Any]) -> DataError:
    found = ", ".join(sorted(map(str, table))[:8])
    return DataError(
        f"no key {column!r} (it has {found})",
        rule="every row has an answer, messages, or src and tgt; --columns output=COLUMN names another column",
    )


def _translations(pairs: Sequence[Pair], language: str) -> list[Row]:
    """Rows of the pairs whose other side is in the language's letters."""
    native = _native(pairs, language)
    return translation_rows(native, language, len(native))


def _native(pairs: Sequence[Pair], language: str) -> list[Pair]:
    return [pair for pair in pairs if language_of_answer(pair[1], language) == language]
