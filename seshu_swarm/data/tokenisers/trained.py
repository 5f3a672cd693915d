"""A trained tokeniser: pieces of bytes, in the layout that stock transformers loads.

    tokenizer.json           the pieces and how text is cut, as the library writes it
    tokenizer_config.json    its special tokens; what looks like one in a text is text

Ids 0, 1 and 2 are pad, end and unknown, as those of bytes. Knows no training and no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seshu_swarm.data.tokenisers.pieces import (
    EOS_ID,
    PAD_ID,
    SPECIAL_TOKENS,
    UNK_ID,
    byte_of_character,
)
from seshu_swarm.errors import DataError, from_os_error
from seshu_swarm.packages import write_whole

PIECES, SETTINGS = "tokenizer.json", "tokenizer_config.json"
MAX_BYTES = 64 << 20


class TrainedTokeniser:
    """A `Tokeniser` whose every id is some bytes; `pieces` is the library's tokenizer.

    Raises DataError for pieces that cannot write every text: without an id for each byte, or with
    other special tokens.
    """

    pad_id, eos_id, unk_id = PAD_ID, EOS_ID, UNK_ID

    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces
        # A text may hold "</s>": only we add an end.
        pieces.encode_special_tokens = True
        self._bytes_of_id = _bytes_by_id(pieces.get_vocab())

    @property
    def vocab_size(self) -> int:
        return len(self._bytes_of_id)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without an end. Raises DataError for text without UTF-8 bytes."""
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"text cannot be encoded: {error.reason}", rule="text must have a UTF-8 form"
            ) from None
        ids: list[int] = self._pieces.encode(text, add_special_tokens=False).ids
        return ids

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        """The bytes that `ids` stand for; special ids, and ids that do not exist, for none."""
        known = range(self.vocab_size)
        return b"".join(self._bytes_of_id[i] for i in ids if i in known)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special ids are skipped, broken UTF-8 becomes U+FFFD."""
        return self.bytes_of(ids).decode("utf-8", errors="replace")

    def files(self) -> dict[str, bytes]:
        """File name → content: what a checkpoint's folder holds of its tokeniser."""
        pieces: str = self._pieces.to_str(pretty=True)
        return {PIECES: pieces.encode(), SETTINGS: json.dumps(_settings(), indent=2).encode()}

    def save(self, folder: Path) -> None:
        """Write `files`; raises ResourceError."""
        for name, data in self.files().items():
            write_whole(folder / name, data)

    @classmethod
    def load(cls, folder: Path) -> TrainedTokeniser:
        """Of a folder with tokenizer.json, or of that file. Raises DataError, ResourceError."""
        from tokenizers import Tokenizer

        path = folder if folder.is_file() else folder / PIECES
        try:
            if path.stat().st_size > MAX_BYTES:
                raise DataError(f"{path} is too large", rule=f"at most {MAX_BYTES} bytes")
            data = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError):
                raise from_os_error(error, str(path)) from error
            raise DataError(f"{path} is not UTF-8", rule="a tokenizer.json") from None
        try:
            pieces = Tokenizer.from_str(data)
        except Exception as error:  # the library raises plain exceptions for what it cannot read
            raise DataError(f"{path} is no tokeniser: {error}", rule="a tokenizer.json") from None
        if pieces.normalizer is not None:
            raise DataError(f"{path} changes texts", rule="a tokeniser without a normaliser")
        return cls(pieces)


def _bytes_by_id(vocabulary: Mapping[str, int]) -> list[bytes]:
    """Bytes of each id in order, none for special ones."""
    table = byte_of_character()
    bytes_of_id = [b""] * len(vocabulary)
    for i, token in enumerate(SPECIAL_TOKENS):
        if vocabulary.get(token) != i:
            raise DataError(
                f"a tokeniser whose id {i} is not {token}", rule="ids 0 to 2 are special"
            )
    for token, i in vocabulary.items():
        if i < len(SPECIAL_TOKENS):
            continue
        if i >= len(bytes_of_id) or not all(character in table for character in token):
            raise DataError(
                f"a tokeniser with the piece {token[:40]!r}", rule="pieces are of bytes"
            )
        bytes_of_id[i] = bytes(table[character] for character in token)
    missing = [byte for byte in range(256) if bytes([byte]) not in bytes_of_id]
    if missing:
        raise DataError(
            f"a tokeniser without a piece for byte {missing[0]:#04x}",
            rule="every byte has an id, so that every text has one",
            way_out="train one with `data tokeniser`",
        )
    return bytes_of_id


def _settings() -> dict[str, Any]:
    pad, eos, unk = SPECIAL_TOKENS
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pad,
        "eos_token": eos,
        "unk_token": unk,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }
