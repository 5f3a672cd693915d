"""A trainer's own running text: a file, a folder of such, or a run's folder.

    .jsonl .csv .parquet    a document in each row's `text`; `language`, if it has one, is its language
    .txt                    documents between empty lines
    DIR/pretrain/*.jsonl    a run's folder: nothing else of it is read

Where a row does not say, a file that is named as a language (`hi.txt`) is in it. Knows no rows to
fine-tune on and no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seshu_swarm.data.jsonl import BadRows, collect, text_at
from seshu_swarm.data.own_files import lines_of
from seshu_swarm.data.text import Document
from seshu_swarm.errors import DataError, from_os_error

SUFFIXES = (".jsonl", ".csv", ".parquet", ".txt")
UNKNOWN = "und"  # ISO 639: undetermined
EMPTY_LINES = re.compile(r"\n\s*\n")


def read_text(
    source: str, languages: Sequence[str], *, bad_rows: BadRows = "refuse"
) -> dict[str, list[Document]]:
    """Documents by language; those that say another one than `languages` are passed over.

    What no language is known of is in the only one of `languages`, or else in UNKNOWN. Raises
    DataError for a source that is missing, of another kind or without text, and for an unreadable
    row (file, line, what).
    """
    found: dict[str, list[Document]] = {}
    for path in files_of(source):
        named = path.stem if path.stem in languages else None
        default = named or (languages[0] if len(languages) == 1 else UNKNOWN)
        for document in _documents(path, default, bad_rows):
            if document.language in (*languages, UNKNOWN):
                found.setdefault(document.language, []).append(document)
    if not found:
        raise DataError(
            f"{source} has no text in {', '.join(languages)}",
            rule='running text: .txt, or rows with "text"',
            way_out="give other text, or name its languages with --languages",
        )
    return found


def files_of(source: str) -> list[Path]:
    """The files of running text there. Raises DataError."""
    path = Path(source)
    if path.is_file() and path.suffix in SUFFIXES:
        return [path]
    if (path / "pretrain").is_dir():
        found = sorted((path / "pretrain").glob("*.jsonl"))
    else:
        found = [f for f in sorted(path.rglob("*")) if f.suffix in SUFFIXES and f.is_file()]
    if not found:
        raise DataError(
            f"{source} is no running text" if path.exists() else f"{source} is not there",
            rule=f"a file or a folder of {' '.join(SUFFIXES)}, or a run's folder",
            way_out="check the path",
        )
    return found


def _documents(path: Path, language: str, bad_rows: BadRows) -> Iterator[Document]:
    def make(table: Mapping[str, Any]) -> tuple[str, str]:
        said = table.get("language") or language
        if not isinstance(said, str):
            raise DataError(f"'language' is a {type(said).__name__}", rule="a language code")
        return text_at(table, "text"), said

    if path.suffix == ".txt":
        texts = [(text, language) for text in EMPTY_LINES.split(_read(path)) if text.strip()]
    else:
        texts = collect(str(path), lines_of(path), make, bad_rows=bad_rows)
    return (Document(f"{path.stem}-{i}", said, text) for i, (text, said) in enumerate(texts))


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise from_os_error(error, str(path)) from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} line {line}: not UTF-8", rule="text is UTF-8", way_out="convert the file"
        ) from None
