"""Lists of words and phrases that a recipe names, and texts held against them.

A list is UTF-8 text, one word or phrase a line; a line that begins with # is a remark. Letters'
case and joiners do not count. Knows no languages: a list is held against all texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.data.building.signals import plain_words
from seshu_swarm.data.text import nfc
from seshu_swarm.errors import DataError, from_os_error


@dataclass(frozen=True)
class WordList:
    """`words` are single words, `phrases` several, by their first."""

    words: frozenset[str]
    phrases: Mapping[str, tuple[tuple[str, ...], ...]]

    @classmethod
    def of(cls, entries: Iterable[str]) -> WordList:
        found = sorted({tuple(plain_words(nfc(entry), "")) for entry in entries})
        phrases: dict[str, tuple[tuple[str, ...], ...]] = {}
        for entry in found:
            if len(entry) > 1:
                phrases[entry[0]] = (*phrases.get(entry[0], ()), entry)
        return cls(frozenset(entry[0] for entry in found if len(entry) == 1), phrases)

    def hits(self, words: Sequence[str]) -> int:
        """How many of a text's plain words are on the list, and how often its phrases occur."""
        count = sum(word in self.words for word in words) if self.words else 0
        for first in self.phrases.keys() & set(words) if self.phrases else ():
            at = [k for k, word in enumerate(words) if word == first]
            for phrase in self.phrases[first]:
                count += sum(tuple(words[k : k + len(phrase)]) == phrase for k in at)
        return count


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
