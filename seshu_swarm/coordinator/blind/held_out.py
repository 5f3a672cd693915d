"""A held-out set as windows to score: answers of rows show gain, running text shows harm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seshu_swarm.coordinator.blind.scoring import HeldOut
from seshu_swarm.data.holdout import read_holdout
from seshu_swarm.data.text import Document
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.windows import Window, windows_of_documents, windows_of_rows

MAX_WINDOW_BYTES = 512
MAX_CONTEXT_TOKENS = 128
MAX_WINDOWS_PER_DOCUMENT = 3  # long documents must not outweigh, nor outlast, the others


def read_held_out(path: Path) -> HeldOut:
    """The windows of a held-out file. Raises DataError."""
    found = read_holdout(path)
    tokeniser = ByteTokeniser()
    rows: dict[str, list[Window]] = {
        language: windows_of_rows(
            tokeniser, items, max_bytes=MAX_WINDOW_BYTES, max_context_tokens=MAX_CONTEXT_TOKENS
        )
        for language, items in found.rows.items()
    }
    text = {language: _of_documents(items) for language, items in found.documents.items()}
    return HeldOut(rows, text)


def _of_documents(documents: Sequence[Document]) -> list[Window]:
    return [
        window
        for document in documents
        for window in windows_of_documents(
            ByteTokeniser(), [document], MAX_WINDOW_BYTES, max_context_tokens=MAX_CONTEXT_TOKENS
        )[:MAX_WINDOWS_PER_DOCUMENT]
    ]
