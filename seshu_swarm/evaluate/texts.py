"""The held-out text that is scored: of a folder or of one .jsonl file, by language.

    DIR/pretrain/<lang>.jsonl, DIR/pretrain-<lang>-000.jsonl, DIR/sft/*.jsonl   as `data.folder` reads them
    FILE.jsonl    {"text", "language" or "lang"} or {"instruction", "input", "output", "language"}

Knows no model and no tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seshu_swarm.data.folder import read_folder, text_files
from seshu_swarm.data.jsonl import BadRows, read_items, row_of, text_at
from seshu_swarm.data.prompts import prompt_of
from seshu_swarm.data.text import Document, Row, check_language, nfc
from seshu_swarm.data.windows import pieces
from seshu_swarm.errors import DataError

SHORTEST_CUT_BYTES = 4


@dataclass(frozen=True)
class Text:
    """`text` is scored, after `prompt`, which is not. `digest` names its content."""

    id: str
    language: str
    prompt: str
    text: str
    digest: str

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the scored text in NFC: the denominator of bits per byte."""
        return len(self.text.encode("utf-8"))


Texts = Mapping[str, Sequence[Text]]
"""By language, in the order of the languages' codes."""


def read_texts(
    path: Path,
    *,
    languages: Sequence[str] = (),
    answers: bool = False,
    max_bytes: int | None = None,
    bad_rows: BadRows = "refuse",
) -> Texts:
    """Documents, or rows' answers, of the languages (of all there are, by default).

    With `max_bytes` texts are drawn in the order of their digests, and the last one is cut. Raises
    DataError for a language without text, and for no text at all.
    """
    if path.is_dir():
        found = _of_folder(path, languages, answers, bad_rows)
    elif path.suffix == ".jsonl":
        found = read_items(path, lambda table: _text_of(table, answers), bad_rows=bad_rows)
    else:
        raise DataError(
            f"no held-out text at {path}",
            rule="a folder with pretrain/ or sft/, or a .jsonl file",
            way_out="check the path given to --data",
        )
    texts: dict[str, list[Text]] = {}
    for text in found:
        texts.setdefault(text.language, []).append(text)
    for language in languages or ("",):
        if not texts or (language and language not in texts):
            raise _missing(path, language, texts, answers)
    chosen = sorted(languages or texts)
    return {name: drawn(texts[name], max_bytes) for name in chosen}


def drawn(texts: Sequence[Text], max_bytes: int | None) -> list[Text]:
    """Texts of at most `max_bytes` in all, in the order of their digests; None keeps everything."""
    if max_bytes is None:
        return list(texts)
    kept, left = [], max_bytes
    for text in sorted(texts, key=lambda text: text.digest):
        if text.num_bytes > left:
            if left >= SHORTEST_CUT_BYTES:
                kept.append(replace(text, text=pieces(text.text, left)[0]))
            break
        kept.append(text)
        left -= text.num_bytes
    return kept


def _of_folder(
    path: Path, languages: Sequence[str], answers: bool, bad_rows: BadRows
) -> list[Text]:
    if answers:
        chosen = languages or _languages_of_rows(path, bad_rows)
        rows = read_folder(path, chosen, bad_rows=bad_rows).rows if chosen else {}
        return [_of_row(row) for found in rows.values() for row in found]
    return [
        _of_document(Document(f"{file.stem}-{number}", language, text))
        for language, files in sorted(text_files(path).items())
        if not languages or language in languages
        for file in files
        for number, text in enumerate(
            read_items(file, lambda table: nfc(text_at(table, "text")), bad_rows=bad_rows)
        )
    ]


def _languages_of_rows(path: Path, bad_rows: BadRows) -> list[str]:
    files = sorted((path / "sft").glob("*.jsonl"))
    return sorted({row.language for f in files for row in read_items(f, row_of, bad_rows=bad_rows)})


def _text_of(table: Mapping[str, Any], answers: bool) -> Text:
    """One line of a file. Raises DataError."""
    if answers:
        return _of_row(row_of(table))
    language = check_language(text_at(table, "lang" if "lang" in table else "language"))
    text = text_at(table, "text")
    return _of_document(Document(str(table.get("id", "")), language, text))


def _of_row(row: Row) -> Text:
    return Text(row.digest[:16], row.language, prompt_of(row), row.output, row.digest)


def _of_document(document: Document) -> Text:
    # Without an id of its own a text would share a cluster of the bootstrap with all others.
    name = document.id or document.digest[:16]
    return Text(name, document.language, "", document.text, document.digest)


def _missing(path: Path, language: str, found: Iterable[str], answers: bool) -> DataError:
    kind, other = ("answers", "text") if answers else ("text", "answers")
    wanted = f"{kind} in {language!r}" if language else kind
    return DataError(
        f"{path} has no {wanted}; it has {', '.join(sorted(found)) or 'none'}",
        rule="documents lie in pretrain/<lang>.jsonl or pretrain-<lang>-000.jsonl, rows in sft/*.jsonl",
        way_out=f"add it, leave it out of --languages, or give --score {other}",
    )
