"""Numbers about one text that hold in any script: words, sentences, shares, repetition.

Words are runs of letters with their marks (`regex`'s `\\w`; Python's own splits Devanagari at vowel
signs), sentences end at a danda as at a full stop. Languages that write no spaces have one word a
letter. Thresholds come from `filters`. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import regex  # type: ignore[import-untyped]

from seshu_swarm.data.building.classes import counts_of
from seshu_swarm.data.decontaminate import SENTENCE_END

WORD = regex.compile(r"\w+")
LETTER_WITH_MARKS = regex.compile(r"\w\p{M}*")
WITHOUT_SPACES = frozenset(("th", "zh"))
RUN_WORDS = 5
# Below these, what repeats says nothing.
ENOUGH_SENTENCES, ENOUGH_RUNS, ENOUGH_WORDS = 4, 40, 20


@dataclass(frozen=True)
class Signals:
    """`script_share` is None where it cannot be said; shares are from 0 to 1."""

    size_bytes: int
    num_words: int
    script_share: float | None
    digit_share: float
    symbol_share: float
    mean_word_letters: float
    repeated_sentence_share: float
    repeated_run_share: float
    top_word_share: float


def words_of(text: str, language: str) -> list[str]:
    pattern = LETTER_WITH_MARKS if language in WITHOUT_SPACES else WORD
    found: list[str] = pattern.findall(text)
    return found


def plain_words(text: str, language: str) -> list[str]:
    """Words without their letters' case and without joiners, which change no word's meaning."""
    return words_of(text.casefold().replace("\u200c", "").replace("\u200d", ""), language)


def signals_of(text: str, words: Sequence[str], language: str) -> Signals:
    counts = counts_of(text, language)
    length = max(1, counts.characters)
    return Signals(
        size_bytes=len(text.encode("utf-8")),
        num_words=len(words),
        script_share=counts.script_share,
        digit_share=counts.digits / length,
        symbol_share=counts.symbols / length,
        mean_word_letters=sum(map(len, words)) / max(1, len(words)),
        repeated_sentence_share=_repeated_sentences(text),
        repeated_run_share=_repeated_runs(words),
        top_word_share=_top_word(words),
    )


def _repeated_sentences(text: str) -> float:
    """Share of characters in sentences that came before."""
    sentences = SENTENCE_END.split(text)
    if len(sentences) < ENOUGH_SENTENCES:
        return 0.0
    total = sum(map(len, sentences))
    return 1 - sum(map(len, set(sentences))) / total if total else 0.0


def _repeated_runs(words: Sequence[str]) -> float:
    """Share of runs of five words that came before (Rae et al. 2021, appendix A.1.1)."""
    num_runs = len(words) - RUN_WORDS + 1
    if num_runs < ENOUGH_RUNS:
        return 0.0
    return 1 - len(set(zip(*(words[k:] for k in range(RUN_WORDS)), strict=False))) / num_runs


def _top_word(words: Sequence[str]) -> float:
    if len(words) < ENOUGH_WORDS:
        return 0.0
    return Counter(words).most_common(1)[0][1] / len(words)
