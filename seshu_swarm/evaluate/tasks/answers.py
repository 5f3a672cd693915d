"""What a model generated against the answers that were expected. Pure.

Words are those of `str.split` without punctuation at their ends, case folded; so Indic words stay
whole, which `\\w+` of the standard library would cut at their vowel signs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def exact_match(generated: str, expected: Sequence[str]) -> float:
    """1 where the words equal those of an answer, or for a number, where it is the last number."""
    return float(any(_is_match(generated, answer) for answer in expected))


def f1(generated: str, expected: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words, against the best answer (SQuAD)."""
    return max(_f1(words(generated), words(answer)) for answer in expected)


def words(text: str) -> list[str]:
    found = (_stripped(word) for word in unicodedata.normalize("NFC", text).casefold().split())
    return [word for word in found if word]


def _is_match(generated: str, answer: str) -> bool:
    wanted = _number(answer.strip())
    if wanted is not None and NUMBER.fullmatch(answer.strip()):
        found = NUMBER.findall(generated)
        return bool(found) and _number(found[-1]) == wanted
    return words(generated) == words(answer)


def _number(text: str) -> float | None:
    """A number in any script's digits, without commas between them."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _f1(generated: Sequence[str], answer: Sequence[str]) -> float:
    common = (Counter(generated) & Counter(answer)).total()
    if not common:
        return float(not generated and not answer)
    return 2 * common / (len(generated) + len(answer))


def _stripped(word: str) -> str:
    start, end = 0, len(word)
    while start < end and _is_punctuation(word[start]):
        start += 1
    while end > start and _is_punctuation(word[end - 1]):
        end -= 1
    return word[start:end]


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
