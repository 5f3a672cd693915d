"""The run's running text, by language: what it was opened with, and what later pretraining added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.jsonl import document_line, document_of, read_items
from seshu_swarm.data.text import Document
from seshu_swarm.packages import write_whole


def run_text(folder: RunFolder) -> dict[str, list[Document]]:
    """Documents per language. Raises DataError."""
    files = sorted(folder.pretraining.glob("*.jsonl"))
    return {file.stem: read_items(file, document_of, bad_rows="refuse") for file in files}


def write_text(folder: RunFolder, documents: Mapping[str, Iterable[Document]]) -> None:
    for language, found in documents.items():
        lines = "".join(document_line(document) for document in found)
        write_whole(folder.pretraining / f"{language}.jsonl", lines.encode("utf-8"))


def add_text(folder: RunFolder, new: Mapping[str, Sequence[Document]]) -> None:
    """The run's text becomes longer by what it lacks: the same text twice is once."""
    old = run_text(folder)
    for language, found in new.items():
        before = old.get(language, [])
        seen = {document.digest for document in before}
        more = [document for document in found if document.digest not in seen]
        write_text(folder, {language: [*before, *more]})
