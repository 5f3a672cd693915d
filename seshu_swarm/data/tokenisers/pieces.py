"""How text is cut before pieces are learned in it. No piece crosses a cut.

Cuts lie before words (with the space before them), between letters and digits, and after three
digits. Letters keep their vowel signs and joiners: `\\p{L}+` alone, as in GPT-2's pattern, would cut
Devanagari and Tamil words at every vowel sign. Text is not normalised, and pieces are of bytes, so
nothing is ever unknown and every text comes back exactly.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")
PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
JOINERS = r"\x{200C}\x{200D}"
WORDS = (
    rf" ?[\p{{L}}\p{{M}}{JOINERS}]+| ?\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}{JOINERS}]+"
    r"|\s+(?!\S)|\s+"
)


def pre_tokeniser() -> Any:
    """The cuts, then one printable character for each byte."""
    from tokenizers import Regex, pre_tokenizers

    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([words, to_bytes])


@lru_cache(maxsize=1)
def byte_of_character() -> dict[str, int]:
    """The printable character that stands for each byte → that byte (GPT-2's table).

    Printable bytes of Latin-1 stand for themselves; the others, in order, are U+0100 and on.
    """
    own = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in own]
    return {chr(b): b for b in own} | {chr(0x100 + i): b for i, b in enumerate(others)}
