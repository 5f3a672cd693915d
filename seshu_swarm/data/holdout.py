"""Held-out sets: the commitment published before a round, and the file revealed after it.

Knows no splits and no scores. Whoever has the revealed file and the salt can recompute the
commitment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm.data.jsonl import document_line, document_of, read_items, row_line, row_of
from seshu_swarm.data.text import Corpus, Document, Row
from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.packages import write_whole

MINIMUM_SALT_BYTES = 16


@dataclass(frozen=True)
class Holdout:
    """Held-out rows and documents per language."""

    rows: Mapping[str, tuple[Row, ...]]
    documents: Mapping[str, tuple[Document, ...]]

    def items(self) -> Iterator[Row | Document]:
        for rows in self.rows.values():
            yield from rows
        for documents in self.documents.values():
            yield from documents


def commitment(holdout: Holdout, salt: bytes) -> str:
    """SHA-256, lower-case hex, over the salt and the sorted digests of all items, a line each.

    The digests cover kind, language and text; the ids of documents are no content. The salt (16
    bytes or more, secret until the reveal) keeps anyone from trying out guessed items.
    """
    if len(salt) < MINIMUM_SALT_BYTES:
        raise UsageError(
            f"a salt of {len(salt)} bytes", rule=f"at least {MINIMUM_SALT_BYTES} random bytes"
        )
    lines = [salt.hex(), *sorted(item.digest for item in holdout.items())]
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


def write_holdout(path: Path, holdout: Holdout) -> None:
    """One JSON line per item; rows have the key `output`, documents the key `text`."""
    lines = [
        row_line(item) if isinstance(item, Row) else document_line(item) for item in holdout.items()
    ]
    write_whole(path, "".join(lines).encode("utf-8"))


def read_holdout(path: Path) -> Holdout:
    """What `write_holdout` wrote. Raises DataError naming file and line."""
    items = read_items(path, item_of, bad_rows="refuse")
    corpus = Corpus.of(
        (item for item in items if isinstance(item, Document)),
        (item for item in items if isinstance(item, Row)),
    )
    return Holdout(corpus.rows, corpus.documents)


def item_of(table: Mapping[str, Any]) -> Row | Document:
    if "text" in table and "output" in table:
        raise DataError(
            f"both a row and a document: {json.dumps(table)[:80]}", rule="it has one of the two"
        )
    return document_of(table) if "text" in table else row_of(table)
