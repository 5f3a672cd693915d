"""Running text in which English and another language take turns, sentence by sentence.

    turns   English 1, native 2, English 3 …   each sentence once: the next one follows from a
            sentence in the other language (OpenHathi's bilingual next-token objective); of use
            where pairs are in the order of a text
    both    English 1, native 1, native 2, English 2 …   each in both, the first language changing:
            for pairs that stand alone, as Samanantar's do

Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from seshu_swarm.data.text import Document, nfc
from seshu_swarm.errors import UsageError

TURNS, BOTH = "turns", "both"


def alternate(
    pairs: Iterable[tuple[str, str]], language: str, *, form: str, document_bytes: int
) -> Iterator[Document]:
    """Documents of at most `document_bytes` (one pair always fits), of pairs (English, native).

    The order of pairs is kept; the first sentence of a document is English in one and native in the
    next. Raises UsageError for another form.
    """
    if form not in (TURNS, BOTH):
        raise UsageError(f"sentences in {form!r}", rule=f"{TURNS} or {BOTH}")
    number, held = 0, list[tuple[str, str]]()
    for pair in pairs:
        if held and _size([*held, pair], form, number) > document_bytes:
            yield _document(held, language, form, number)
            number, held = number + 1, []
        held.append(pair)
    if held:
        yield _document(held, language, form, number)


def _size(pairs: list[tuple[str, str]], form: str, number: int) -> int:
    return len("\n".join(_lines(pairs, form, number)).encode("utf-8"))


def _lines(pairs: list[tuple[str, str]], form: str, number: int) -> Iterator[str]:
    """Sentences of document `number`, in which the first language is that of its parity."""
    for k, pair in enumerate(pairs, start=number):
        english, native = (" ".join(nfc(side).split()) for side in pair)
        ordered = (english, native) if k % 2 == 0 else (native, english)
        yield from ordered if form == BOTH else ordered[:1]


def _document(pairs: list[tuple[str, str]], language: str, form: str, number: int) -> Document:
    return Document(f"en-{language}-{number:06d}", language, "\n".join(_lines(pairs, form, number)))
