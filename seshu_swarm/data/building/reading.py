"""One piece, from its source to its spool: cleaned, held against the filters and the hold-outs.

A task can be done again at any time with the same result; its book, written last, says that it is
done. Knows no other pieces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from seshu_swarm.data.building.cleaning import cleaned
from seshu_swarm.data.building.contamination import Holdouts, read_holdouts
from seshu_swarm.data.building.filters import reason_of
from seshu_swarm.data.building.near import MINIMUM_WORDS, signature_of
from seshu_swarm.data.building.pieces import Piece
from seshu_swarm.data.building.recipe import Recipe
from seshu_swarm.data.building.signals import plain_words, signals_of
from seshu_swarm.data.building.sources import Raw, rows_of
from seshu_swarm.data.building.spool import Spool
from seshu_swarm.data.building.tally import Bad, Tally
from seshu_swarm.data.building.wordlists import WordList, read_words
from seshu_swarm.data.decontaminate import SENTENCE_END
from seshu_swarm.data.jsonl import document_line
from seshu_swarm.data.overlap import normalise
from seshu_swarm.data.text import Document
from seshu_swarm.errors import from_os_error
from seshu_swarm.packages import write_whole

BATCH_BYTES = 1 << 19
# A shard's reader refuses an item of more than 2^18 characters, id and language included.
MAX_PART_CHARACTERS = 200_000


@dataclass(frozen=True)
class ReadTask:
    """`folder` is the recipe's, `place` that of the spools."""

    piece: Piece
    recipe: Recipe
    folder: Path
    place: Path


@dataclass(frozen=True)
class Tools:
    """What all pieces are held against; read once per process."""

    holdouts: Holdouts
    refusals: WordList
    bad_words: WordList


@lru_cache(maxsize=1)
def tools_of(recipe: Recipe, folder: Path) -> Tools:
    """Raises DataError, ResourceError."""
    return Tools(
        holdouts=Holdouts(read_holdouts(_paths(folder, recipe.holdouts))),
        refusals=read_words(_paths(folder, recipe.words.refusals)),
        bad_words=read_words(_paths(folder, recipe.words.bad_words)),
    )


def check_tools(recipe: Recipe, folder: Path) -> None:
    """Refuse a wrong hold-out or list, keeping none of them. Raises as `tools_of` does."""
    read_holdouts(_paths(folder, recipe.holdouts))
    read_words(_paths(folder, recipe.words.refusals))
    read_words(_paths(folder, recipe.words.bad_words))


def _paths(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [folder / Path(name).expanduser() for name in names]


def book_of(task: ReadTask) -> Path:
    return task.place / f"{task.piece.name}.book.json"


def read_piece(task: ReadTask) -> int:
    """Do the task; the bytes of its source are returned. Raises DataError, ResourceError."""
    try:
        with Spool(task.place, task.piece.name, has_near=task.recipe.duplicates.near) as spool:
            tally = Reader(task, spool).read()
        table = {"languages": spool.languages, "tally": tally.to_json()}
        write_whole(book_of(task), json.dumps(table, ensure_ascii=False).encode())
    except OSError as error:
        raise from_os_error(error, str(task.place)) from error
    return task.piece.size_bytes


@dataclass(frozen=True)
class Good:
    """A text that passed the filters, with its plain words."""

    place: str
    document: Document
    words: list[str]


class Reader:
    """Reads a piece in batches of half a megabyte or one text."""

    def __init__(self, task: ReadTask, spool: Spool) -> None:
        self._recipe, self._piece, self._spool = task.recipe, task.piece, spool
        self._tools = tools_of(task.recipe, task.folder)
        self._tally = Tally()

    def read(self) -> Tally:
        batch: list[Good] = []
        size_bytes = 0
        for good in self._good_ones():
            batch.append(good)
            size_bytes += len(good.document.text.encode("utf-8"))
            if size_bytes >= BATCH_BYTES:
                self._write(batch)
                batch, size_bytes = [], 0
        self._write(batch)
        return self._tally

    def _good_ones(self) -> Iterator[Good]:
        limit = self._recipe.max_line_bytes
        rows = rows_of(self._piece, max_line_bytes=limit, seed=self._recipe.seed)
        for number, row in enumerate(rows):
            language = row.language if isinstance(row, Raw) else "-"
            # What a stranger calls a language is no key of our books.
            language = language if language in self._recipe.languages else "-"
            self._tally.read[language] += 1
            found = self._judged(number, row)
            if isinstance(found, Bad):
                self._tally.leave_out(found, language)
            else:
                yield found

    def _judged(self, number: int, row: Raw | Bad) -> Good | Bad:
        if isinstance(row, Bad):
            return row
        if row.language not in self._recipe.languages:
            return Bad("other_language", row.place, repr(row.language[:20]))
        if len(row.text) > self._recipe.max_line_bytes:
            return Bad("line_too_long", row.place, f"{len(row.text)} characters")
        text, fault = cleaned(row.text)
        if fault:
            return Bad(fault, row.place, ascii(row.text[:40]))
        if not text:
            return Bad("empty", row.place)
        words = plain_words(text, row.language)
        signals = signals_of(text, words, row.language)
        reason = reason_of(signals, self._recipe.filters) or self._word_reason(words)
        if reason:
            return Bad(reason, row.place, text[:40])
        document = Document(f"{self._piece.name}-{number:06d}", row.language, text)
        return Good(row.place, document, words)

    def _word_reason(self, words: list[str]) -> str | None:
        if self._tools.refusals.hits(words):
            return "refusal"
        if bad := self._tools.bad_words.hits(words):
            if bad > self._recipe.words.max_bad_word_share * len(words):
                return "bad_words"
            self._tally.flags["bad_words"] += 1
        return None

    def _write(self, batch: list[Good]) -> None:
        left = self._tools.holdouts.taken_from([good.document for good in batch])
        for number, good in enumerate(batch):
            if number not in left and len(good.document.text) <= MAX_PART_CHARACTERS:
                self._keep(good.document, good.words)
            else:
                self._write_parts(good, left.get(number, [good.document]))

    def _write_parts(self, good: Good, parts: list[Document]) -> None:
        """What is left of a text, if anything, in parts that a shard's reader takes."""
        language, text = good.document.language, good.document.text
        if not parts:
            # Examples are published with the books: nothing of a hold-out must be in them.
            self._tally.leave_out(Bad("contaminated", good.place), language)
        texts = [part for document in parts for part in cut(document.text)]
        if texts and "\n".join(texts) != text:
            self._tally.flags["contaminated_in_part"] += 1
        self._tally.flags["parts_added"] += max(0, len(texts) - 1)
        for k, part in enumerate(texts):
            name = good.document.id + (f"-{k}" if k else "")
            self._keep(Document(name, language, part), plain_words(part, language))

    def _keep(self, document: Document, words: list[str]) -> None:
        line = document_line(document).encode("utf-8")
        size_bytes = len(document.text.encode("utf-8"))
        index = (digest_of(document.text), len(line), size_bytes, len(words))
        has_near = self._recipe.duplicates.near and len(words) >= MINIMUM_WORDS
        signature = signature_of(words) if has_near else None
        self._spool.add(document.language, line, index, signature)
        self._tally.keep(document.language, size_bytes)


def digest_of(text: str) -> int:
    """64 bits of a text's content, letters' case and white space aside."""
    return int.from_bytes(hashlib.blake2b(normalise(text), digest_size=8).digest(), "little")


def cut(text: str) -> list[str]:
    """The text in parts that a shard's reader takes, at ends of sentences where there are any."""
    if len(text) <= MAX_PART_CHARACTERS:
        return [text]
    parts, start = list[str](), 0
    ends = [*(found.start() for found in SENTENCE_END.finditer(text)), len(text)]
    last = 0
    for end in ends:
        while end - start > MAX_PART_CHARACTERS:
            stop = last if last > start else start + MAX_PART_CHARACTERS
            parts.append(text[start:stop].strip())
            start = stop
        last = end
    parts.append(text[start:].strip())
    return [part for part in parts if part]
