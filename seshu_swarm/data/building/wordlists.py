"""Lists of words and phrases that a recipe names, and texts held against them.

A list is UTF-8 text, one word or phrase a line; a line that begins with # is a remark. Letters'
case and joiners do not count. Knows no languages: a list is held against all texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.data.building.signals import words_of
from seshu_swarm.data.overlap import normalise
from seshu_swarm.data.text import nfc
from seshu_swarm.errors import DataError, from_os_error


@dataclass(frozen=True)
class WordList:
    """`words` are single words, `phrases` several with one space between them."""

    words: frozenset[str]
    phrases: frozenset[str]

    @classmethod
    def of(cls, entries: Iterable[str]) -> WordList:
        found = [tuple(words_of(_plain(entry), "")) for entry in entries]
        return cls(
            words=frozenset(entry[0] for entry in found if len(entry) == 1),
            phrases=frozenset(" ".join(entry) for entry in found if len(entry) > 1),
        )

    def hits(self, words: Sequence[str]) -> int:
        """How many of a text's words are on the list, and how often its phrases occur."""
        if not self.words and not self.phrases:
            return 0
        plain = [_plain(word) for word in words]
        count = sum(word in self.words for word in plain)
        if self.phrases:
            line = f" {' '.join(plain)} "
            count += sum(line.count(f" {phrase} ") for phrase in self.phrases)
        return count


def _plain(text: str) -> str:
    return normalise(nfc(text)).decode("utf-8")


def read_words(paths: Iterable[Path]) -> WordList:
    """Raises DataError for a list that is not UTF-8 or empty, ResourceError for one that is away."""
    entries: list[str] = []
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise from_os_error(error, str(path)) from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: not UTF-8 at byte {error.start}", rule="text is UTF-8"
            ) from None
        found = [line for line in lines if line.strip() and not line.startswith("#")]
        if not found:
            raise DataError(f"{path} holds no words", rule="one word or phrase a line")
        entries += found
    return WordList.of(entries)
