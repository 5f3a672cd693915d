"""Rows, documents and corpora: frozen, NFC, known by the digest of their content.

A *row* is an instruction with its answer; a *document* is running text. `language` is a code such
as `hi` and means the language of the scored text: the row's output, the document's text. Knows
no files and no tokens.

Every text is brought to Unicode NFC when it enters, so that bytes mean the same everywhere (NFC
takes U+0958 to U+095F and U+09DC apart; that is its definition).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from seshu_swarm.errors import DataError

SURROGATE = re.compile("[\ud800-\udfff]")
LANGUAGE = re.compile(r"[a-z]{2,3}(?:[_-][A-Za-z]{2,4})?")


def nfc(text: str) -> str:
    """`text` in NFC. Raises DataError for a lone surrogate, which has no UTF-8 bytes."""
    if SURROGATE.search(text):
        raise DataError(
            f"text with a lone surrogate: {text[:40]!a}",
            rule="text must have a UTF-8 form",
            way_out="remove the broken character",
        )
    return unicodedata.normalize("NFC", text)


def check_language(language: str) -> str:
    """The code itself. Raises DataError where it is not shaped like one (`hi`, `mni`, `pa_Arab`)."""
    if not LANGUAGE.fullmatch(language):
        raise DataError(
            f"language {language[:40]!r} is not a language code",
            rule="two or three small letters, such as hi or ta",
        )
    return language


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Row:
    """One instruction with its answer. `input` may be empty. Raises DataError for broken text."""

    instruction: str
    input: str
    output: str
    language: str

    def __post_init__(self) -> None:
        check_language(self.language)
        for name in ("instruction", "input", "output"):
            object.__setattr__(self, name, nfc(getattr(self, name)))

    @property
    def digest(self) -> str:
        """SHA-256 of the content, lower-case hex."""
        return _digest("row", self.instruction, self.input, self.output, self.language)


@dataclass(frozen=True)
class Document:
    """Running text. `id` only names it. Raises DataError for broken text."""

    id: str
    language: str
    text: str

    def __post_init__(self) -> None:
        check_language(self.language)
        object.__setattr__(self, "text", nfc(self.text))

    @property
    def digest(self) -> str:
        """SHA-256 of language and text, lower-case hex; the id is not content."""
        return _digest("document", self.language, self.text)


@dataclass(frozen=True)
class Corpus:
    """Documents and rows per language."""

    documents: Mapping[str, tuple[Document, ...]] = field(default_factory=dict)
    rows: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, documents: Iterable[Document], rows: Iterable[Row]) -> Corpus:
        """Sort items by their language, keeping their order."""
        documents_of: dict[str, list[Document]] = {}
        rows_of: dict[str, list[Row]] = {}
        for document in documents:
            documents_of.setdefault(document.language, []).append(document)
        for row in rows:
            rows_of.setdefault(row.language, []).append(row)
        return cls(
            {language: tuple(found) for language, found in documents_of.items()},
            {language: tuple(found) for language, found in rows_of.items()},
        )

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(sorted({*self.documents, *self.rows}))
