"""How finely a tokeniser cuts each language: bytes and characters per token, tokens per word.

A word is what stands between white space. Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seshu_swarm.data.tokeniser import Tokeniser


@dataclass(frozen=True)
class Fertility:
    """Counts of one language. `changed` texts did not come back as they were: 0, or a defect."""

    texts: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    tokens: int = 0
    changed: int = 0

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / max(1, self.tokens)

    @property
    def characters_per_token(self) -> float:
        return self.characters / max(1, self.tokens)

    @property
    def tokens_per_word(self) -> float:
        return self.tokens / max(1, self.words)

    def with_text(self, text: str, ids: list[int], *, is_same: bool) -> Fertility:
        return Fertility(
            texts=self.texts + 1,
            bytes=self.bytes + len(text.encode("utf-8")),
            characters=self.characters + len(text),
            words=self.words + len(text.split()),
            tokens=self.tokens + len(ids),
            changed=self.changed + (not is_same),
        )


def fertility(tokeniser: Tokeniser, texts: Iterable[tuple[str, str]]) -> dict[str, Fertility]:
    """Counts of each language in (language, text), sorted by language; every text is decoded too."""
    found: dict[str, Fertility] = {}
    for language, text in texts:
        ids = tokeniser.encode(text)
        so_far = found.get(language, Fertility())
        found[language] = so_far.with_text(text, ids, is_same=tokeniser.decode(ids) == text)
    return dict(sorted(found.items()))
