"""The byte vocabulary as llama.cpp takes it: GPT-2's alphabet of bytes, and nothing to merge. Pure.

llama.cpp's BPE writes every byte of a text as one character of that alphabet before it merges, so
a vocabulary of 256 such characters is exact for every text, spaces and broken UTF-8 too. Its
SentencePiece tokeniser, the other candidate, turns spaces into U+2581 first, three bytes for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from seshu_swarm.data.tokeniser import NUM_BYTES, NUM_SPECIAL

# A merge must be named, and these two bytes follow one another in no UTF-8 text.
UNUSED_MERGE = (0xFE, 0xFF)


class TokenKind(IntEnum):
    """`tokenizer.ggml.token_type` of GGUF."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    UNUSED = 5


SPECIAL = (
    ("<pad>", TokenKind.CONTROL),
    ("</s>", TokenKind.CONTROL),
    ("<unk>", TokenKind.UNKNOWN),
)


@dataclass(frozen=True)
class Vocabulary:
    """One text and one kind for each id; merges as 'LEFT RIGHT'."""

    tokens: tuple[str, ...]
    kinds: tuple[TokenKind, ...]
    merges: tuple[str, ...]


def character_of(byte: int) -> str:
    """GPT-2's character for a byte: itself where it is visible in Latin-1, else from U+0100 on."""
    if _is_visible(byte):
        return chr(byte)
    return chr(0x100 + sum(not _is_visible(lower) for lower in range(byte)))


def _is_visible(byte: int) -> bool:
    return 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF


def byte_vocabulary(vocab_size: int) -> Vocabulary:
    """ByT5's ids: three special ones, 256 bytes, and what the table has besides as unused."""
    num_spare = vocab_size - NUM_SPECIAL - NUM_BYTES
    spare = [(f"<extra_id_{index}>", TokenKind.UNUSED) for index in range(num_spare)]
    every_byte = [(character_of(byte), TokenKind.NORMAL) for byte in range(NUM_BYTES)]
    tokens, kinds = zip(*SPECIAL, *every_byte, *spare, strict=True)
    merge = " ".join(character_of(byte) for byte in UNUSED_MERGE)
    return Vocabulary(tokens, kinds, (merge,))
