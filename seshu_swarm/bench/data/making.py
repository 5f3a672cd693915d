"""Text to build from: new documents of real sentences, of any size, and with faults planted in it.

Sentences come from a folder's running text, or from the phrasebook. No document is made twice but
on purpose. Deterministic by the seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seshu_swarm.data import phrasebook
from seshu_swarm.data.building.cleaning import cleaned
from seshu_swarm.data.decontaminate import SENTENCE_END
from seshu_swarm.data.folder import read_documents
from seshu_swarm.data.overlap import normalise, short_pieces
from seshu_swarm.data.phrasebook import LANGUAGES
from seshu_swarm.data.rolling import WINDOW_BYTES
from seshu_swarm.data.scripts import SCRIPT_OF
from seshu_swarm.data.text import Document

FILE_BYTES = 64 << 20
HELD_SHARE = 0.02
MINIMUM_SENTENCE_BYTES = 60
PLANTED_WORDS = 160
PHRASEBOOK = ("hi", "ta", "bn", "te", "en")


@dataclass(frozen=True)
class Pool:
    """Sentences by language; `held` are of the hold-out and in no document but on purpose."""

    free: dict[str, list[str]]
    held: dict[str, list[str]]


def pool_of(folder: Path | None, seed: int) -> Pool:
    """Raises DataError for a folder without running text."""
    rng = random.Random(f"pool {seed}")
    pool = Pool({}, {})
    for language, documents in sorted(_documents(folder, seed).items()):
        found = {cleaned(s)[0] for d in documents for s in SENTENCE_END.split(d.text)}
        long = sorted(s for s in found if len(s.encode()) >= MINIMUM_SENTENCE_BYTES)
        rng.shuffle(long)
        num_held = max(1, round(HELD_SHARE * len(long)))
        pool.held[language] = long[:num_held]
        held = {window for text in pool.held[language] for window in windows_of(text)}
        # What shares text with the hold-out anyway would be found beside what is planted.
        pool.free[language] = [s for s in long[num_held:] if held.isdisjoint(windows_of(s))]
    return pool


def windows_of(text: str) -> Iterator[bytes]:
    """All runs of 50 bytes of the text as it is compared, and of 13 words that are shorter."""
    compared = normalise(text)
    for k in range(len(compared) - WINDOW_BYTES + 1):
        yield compared[k : k + WINDOW_BYTES]
    yield from short_pieces(compared)


def _documents(folder: Path | None, seed: int) -> dict[str, Sequence[Document]]:
    if folder is None:
        return dict(phrasebook.build(PHRASEBOOK, seed).documents)
    known = sorted({*LANGUAGES, *SCRIPT_OF})
    return dict(read_documents(folder, known))


def document(sentences: Sequence[str], rng: random.Random, *, num_words: int) -> str:
    """So many words or a few more, of random sentences."""
    chosen, count = list[str](), 0
    while count < num_words:
        chosen.append(rng.choice(sentences))
        count += len(chosen[-1].split())
    return "\n".join(chosen)


def write_text(folder: Path, pool: Pool, *, size_bytes: int, seed: int) -> int:
    """Write `size_bytes` of text or a little more as files of rows; the bytes written."""
    folder.mkdir(parents=True)
    rng, written, number = random.Random(f"text {seed}"), 0, 0
    languages = sorted(pool.free)
    while written < size_bytes:
        file_bytes = 0
        with (folder / f"{number:03d}.jsonl").open("w", encoding="utf-8") as file:
            while file_bytes < FILE_BYTES and written + file_bytes < size_bytes:
                language = rng.choice(languages)
                text = document(pool.free[language], rng, num_words=rng.randrange(20, 300))
                file.write(line(language, text))
                file_bytes += len(text.encode())
        written, number = written + file_bytes, number + 1
    return written


def line(language: str, text: str) -> str:
    return json.dumps({"lang": language, "text": text}, ensure_ascii=False) + "\n"


@dataclass
class Planted:
    """Rows in order, and what was planted where (numbers of rows)."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    copies: set[int] = field(default_factory=set)
    contaminated: set[int] = field(default_factory=set)


def planted(pool: Pool, *, num_documents: int, seed: int) -> Planted:
    """Documents, then copies of one in ten, word for word or with one word changed, then new
    documents with a held sentence in the middle, for one in ten."""
    rng = random.Random(f"planted {seed}")
    languages = sorted(pool.free)
    made = Planted()

    def new() -> tuple[str, str]:
        language = rng.choice(languages)
        return language, document(pool.free[language], rng, num_words=PLANTED_WORDS)

    made.rows = [new() for _ in range(num_documents)]
    for number in range(0, num_documents, 10):
        language, text = made.rows[number]
        made.copies.add(len(made.rows))
        changed = text.replace("\n", " ") if number % 20 else _with_other_word(text, rng)
        made.rows.append((language, changed))
    for _ in range(num_documents // 10):
        language, text = new()
        lines = text.split("\n")
        lines.insert(len(lines) // 2, rng.choice(pool.held[language]))
        made.contaminated.add(len(made.rows))
        made.rows.append((language, "\n".join(lines)))
    return made


def _with_other_word(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    words[rng.randrange(len(words))] = rng.choice(words)[::-1]
    return " ".join(words)


def held_lines(pool: Pool) -> Iterator[str]:
    """The hold-out, as `data build` reads it."""
    for language, sentences in sorted(pool.held.items()):
        for number, text in enumerate(sentences):
            table = {"id": f"held-{number}", "language": language, "text": text}
            yield json.dumps(table, ensure_ascii=False) + "\n"


def write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)
