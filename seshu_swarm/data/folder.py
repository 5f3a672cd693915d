"""A run's folder of text.

    DIR/pretrain/<lang>.jsonl      {"text"}                                        documents
    DIR/sft/*.jsonl                {"instruction", "input", "output", "language"}  rows
    DIR/parallel/en-<lang>.jsonl   {"src", "tgt"}, src English                     translation rows
    DIR/pretrain-<lang>-000.jsonl  shards of running text, as `data build` makes them

Other keys are ignored. Pairs become rows only where a language has fewer than
`ENOUGH_ROWS` answers of its own. Knows no splits and no network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seshu_swarm.data.catalogue import SHARD_NAME
from seshu_swarm.data.instructions.wordings import wordings_of
from seshu_swarm.data.jsonl import BadRows, read_items, row_of, text_at
from seshu_swarm.data.scripts import language_of_answer
from seshu_swarm.data.text import Corpus, Document, Row, nfc
from seshu_swarm.errors import DataError

ENOUGH_ROWS = 2_000
BACK_EVERY = 4  # one pair in four is also asked the other way
ENGLISH_NAMES = {
    "as": "Assamese",
    "bn": "Bengali",
    "en": "English",
    "gu": "Gujarati",
    "hi": "Hindi",
    "kn": "Kannada",
    "ml": "Malayalam",
    "mr": "Marathi",
    "ne": "Nepali",
    "or": "Odia",
    "pa": "Punjabi",
    "sd": "Sindhi",
    "si": "Sinhala",
    "ta": "Tamil",
    "te": "Telugu",
    "ur": "Urdu",
    "kok": "Konkani",
    "mai": "Maithili",
    "ks": "Kashmiri",
    "sa": "Sanskrit",
}


def read_folder(path: Path, languages: Sequence[str], *, bad_rows: BadRows = "refuse") -> Corpus:
    """The folder's documents and rows in `languages`; a row's language is that of its answer.

    Raises DataError for a folder without one of the languages, and for an unreadable row (file,
    line, what); `bad_rows="skip"` logs how many were skipped.
    """
    sft_rows = _sft_rows(path, bad_rows)
    found = _languages_of(path, sft_rows)
    for language in languages:
        if language not in found:
            raise _missing(path, language, found)
    files = text_files(path)
    documents = [
        document
        for language in languages
        for document in _documents(files.get(language, []), language, bad_rows)
    ]
    rows = [row for row in sft_rows if row.language in languages]
    for language in languages:
        own = sum(row.language == language for row in rows)
        if language != "en" and own < ENOUGH_ROWS:
            pairs = _pairs(path / "parallel" / f"en-{language}.jsonl", language, bad_rows)
            rows += translation_rows(pairs, language, ENOUGH_ROWS - own)
    corpus = Corpus.of(documents, (row for row in rows if row.language in languages))
    for language in languages:
        if language not in corpus.languages:  # a file without lines
            raise _missing(path, language, corpus.languages)
    return corpus


def read_documents(
    path: Path, languages: Sequence[str], *, bad_rows: BadRows = "refuse"
) -> dict[str, list[Document]]:
    """Only the running text of a folder, by language; its files decide which ones.

    Raises DataError for a folder without text, and for a language that is not among `languages`.
    """
    files = text_files(path)
    for language, some in sorted(files.items()):
        if language not in languages:
            raise DataError(
                f"{some[0]} is in no language of the run",
                rule=f"its languages are {', '.join(languages)}",
                way_out="leave the file out, or open a run with that language",
            )
    read = {x: _documents(some, x, bad_rows) for x, some in sorted(files.items())}
    found = {language: documents for language, documents in read.items() if documents}
    if not found:
        raise DataError(
            f"{path} has no running text",
            rule='running text lies in pretrain/<lang>.jsonl, {"text": …} in each line',
        )
    return found


def _languages_of(path: Path, sft_rows: Iterable[Row]) -> set[str]:
    """Languages that have a file of documents or of pairs, or an SFT answer."""
    documents = set(text_files(path))
    pairs = {file.stem.removeprefix("en-") for file in (path / "parallel").glob("en-*.jsonl")}
    english = {"en"} if pairs else set()
    return documents | pairs | english | {row.language for row in sft_rows}


def _missing(path: Path, language: str, found: Iterable[str]) -> DataError:
    return DataError(
        f"{path} has no text in {language!r}; it has {', '.join(sorted(found)) or 'none'}",
        rule="every language of a run needs pretrain/<lang>.jsonl, or rows in sft/ or parallel/",
        way_out="add the text, or leave the language out of --languages",
    )


def text_files(path: Path) -> dict[str, list[Path]]:
    """Files of running text by language: the language's own, then shards in their order."""
    found = {file.stem: [file] for file in sorted((path / "pretrain").glob("*.jsonl"))}
    for shard in sorted(path.glob("pretrain-*.jsonl")):
        if matched := SHARD_NAME.fullmatch(shard.name):
            found.setdefault(matched["language"], []).append(shard)
    return found


def _documents(files: Iterable[Path], language: str, bad_rows: BadRows) -> list[Document]:
    texts = [
        text
        for file in files
        for text in read_items(file, lambda table: nfc(text_at(table, "text")), bad_rows=bad_rows)
    ]
    width = len(str(len(texts)))
    return [Document(f"{language}-{i:0{width}d}", language, text) for i, text in enumerate(texts)]


def _sft_rows(path: Path, bad_rows: BadRows) -> list[Row]:
    return [
        row
        for file in sorted((path / "sft").glob("*.jsonl"))
        for row in read_items(file, _labelled_row, bad_rows=bad_rows)
    ]


def _labelled_row(table: Mapping[str, Any]) -> Row:
    row = row_of(table)
    language = language_of_answer(row.output, row.language)
    if language == row.language:
        return row
    return Row(row.instruction, row.input, row.output, language)


def _pairs(file: Path, language: str, bad_rows: BadRows) -> list[tuple[str, str]]:
    """(English, native) of each line whose native side is in the language's letters."""
    if not file.exists():
        return []
    pairs = read_items(
        file,
        lambda table: (nfc(text_at(table, "src")), nfc(text_at(table, "tgt"))),
        bad_rows=bad_rows,
    )
    return [pair for pair in pairs if language_of_answer(pair[1], language) == language]


def translation_rows(pairs: Iterable[tuple[str, str]], language: str, num_rows: int) -> list[Row]:
    """At most `num_rows` rows into the language, and a quarter as many back into English.

    Pairs are taken in the order of their digests, so that every source of the file has its share.
    """
    by_digest = sorted((hashlib.sha256("\0".join(p).encode()).digest(), p) for p in set(pairs))
    wordings = wordings_of(language, ENGLISH_NAMES.get(language, language))
    rows = []
    for i, (digest, (english, native)) in enumerate(by_digest[:num_rows]):
        wording = digest[0] % len(wordings.to_native)
        rows.append(Row(wordings.to_native[wording], english, native, language))
        if i % BACK_EVERY == 0:
            rows.append(Row(wordings.to_english[wording], native, english, "en"))
    return rows
