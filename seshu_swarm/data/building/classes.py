"""Letters, digits and symbols of a text counted in one pass, by a table over Unicode's first planes.

`scripts` says what a script is; the counts here are its own, but many times faster on short texts.
L: characters of the text. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import regex  # type: ignore[import-untyped]
from numpy.typing import NDArray

from seshu_swarm.data.scripts import BLOCKS, SCRIPT_OF

# Beyond the first two planes there are rare ideographs and no letters of a script that is listed.
NUM_CODES = 0x20000
LETTER, OWN, DIGIT, SYMBOL = 1, 2, 4, 8
NUM_CLASSES = 16
# Which classes have which bit: (16, 4).
BITS = np.asarray([[kind >> bit & 1 for bit in range(4)] for kind in range(NUM_CLASSES)])

_LETTERS = re.compile(r"[^\W\d_]")
_DIGITS = regex.compile(r"\p{Nd}")
_SYMBOLS = regex.compile(r"[\p{S}#@*\\_{}\[\]•…]")


@dataclass(frozen=True)
class Counts:
    """`own` counts what is in the language's script, vowel signs among it; None: not listed."""

    characters: int
    letters: int
    own: int | None
    digits: int
    symbols: int

    @property
    def script_share(self) -> float | None:
        """As `scripts.script_share`: None where it cannot be said."""
        if self.own is None or not self.letters:
            return None
        return min(1.0, self.own / self.letters)


def counts_of(text: str, language: str) -> Counts:
    codes_L = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    classes_L = _table(SCRIPT_OF.get(language))[np.minimum(codes_L, NUM_CODES - 1)]
    letters, own, digits, symbols = (np.bincount(classes_L, minlength=NUM_CLASSES) @ BITS).tolist()
    is_listed = language in SCRIPT_OF
    return Counts(len(codes_L), letters, own if is_listed else None, digits, symbols)


@lru_cache(maxsize=64)
def _table(script: str | None) -> NDArray[np.uint8]:
    """The classes of each code, as bits."""
    table = _common_table().copy()
    if script is not None:
        table[_codes(re.compile(f"[{BLOCKS[script]}]"))] |= OWN
    return table


@lru_cache(maxsize=1)
def _common_table() -> NDArray[np.uint8]:
    table = np.zeros(NUM_CODES, dtype=np.uint8)
    for pattern, bit in ((_LETTERS, LETTER), (_DIGITS, DIGIT), (_SYMBOLS, SYMBOL)):
        table[_codes(pattern)] |= bit
    return table


def _codes(pattern: re.Pattern[str]) -> list[int]:
    """Codes of the characters that match."""
    everything = "".join(map(chr, range(NUM_CODES)))
    return [ord(character) for character in pattern.findall(everything)]
