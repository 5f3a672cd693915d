"""Ids of texts: bytes, or what a tokeniser of transformers in a model's folder makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from seshu_swarm.data.prompts import ids_between_ends
from seshu_swarm.data.tokeniser import NUM_BYTES, NUM_SPECIAL, ByteTokeniser
from seshu_swarm.errors import PackageError

TOKENISER_FILES = ("tokenizer_config.json", "tokenizer.json")
BYTE_CLASS = "ByT5Tokenizer"


class Vocabulary:
    """`start_id`: what texts begin after; `end_id`: what ends them, or None. Raises PackageError."""

    def __init__(self, name: str, tokeniser: Any = None) -> None:
        """`tokeniser`: None for ByT5's bytes, else one of transformers."""
        self._tokeniser, self._bytes = tokeniser, ByteTokeniser()
        self.start_id, self.end_id = ends_of(name, tokeniser)

    @classmethod
    def open(cls, folder: Path, name: str, vocab_size: int) -> Self:
        return cls(name, tokeniser_of(folder, vocab_size))

    def encode(self, text: str) -> list[int]:
        """Without a beginning and without an end."""
        if self._tokeniser is None:
            return self._bytes.encode(text)
        # Longer than the model is fine: windows are cut from it.
        found = self._tokeniser(text, add_special_tokens=False, verbose=False)
        return list(found["input_ids"])

    def encode_prompt(self, prompt: str) -> list[int]:
        """With an end behind each earlier answer of a talk."""
        return ids_between_ends(self.encode, self.end_id, prompt)

    def decode(self, ids: Sequence[int]) -> str:
        if self._tokeniser is None:
            return self._bytes.decode(ids)
        return str(self._tokeniser.decode(ids, skip_special_tokens=True))


def ends_of(name: str, tokeniser: Any) -> tuple[int, int | None]:
    """The id that texts begin after, and the one that ends them. Raises PackageError."""
    if tokeniser is None:
        return ByteTokeniser.eos_id, ByteTokeniser.eos_id
    begin, end = tokeniser.bos_token_id, tokeniser.eos_token_id
    start = end if begin is None else begin
    if start is None:
        raise PackageError(
            f"the tokeniser of {name} names neither a beginning nor an end of texts",
            rule="a text without a prompt is scored after one of them",
            way_out="name an eos_token in tokenizer_config.json",
        )
    return int(start), None if end is None else int(end)


def tokeniser_of(folder: Path, vocab_size: int) -> Any:
    """The folder's tokeniser of transformers; None where texts are bytes. Raises PackageError.

    ByT5's class is never used: it puts an end after every text.
    """
    files = [folder / name for name in TOKENISER_FILES if (folder / name).is_file()]
    if not files:
        if vocab_size >= NUM_SPECIAL + NUM_BYTES:
            return None
        raise PackageError(
            f"{folder} has no tokeniser and {vocab_size} ids",
            rule="without a tokeniser ids are ByT5's, 259 or more",
            way_out="put tokenizer.json beside the weights",
        )
    if _class_in(files[0]) == BYTE_CLASS:
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises whatever a broken file makes of its parsers
        raise PackageError(
            f"{folder} has a tokeniser that cannot be read: {error}"[:300],
            rule="tokenizer.json or the files of a class of transformers",
        ) from None


def _class_in(file: Path) -> str:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(table.get("tokenizer_class", "")) if isinstance(table, dict) else ""
