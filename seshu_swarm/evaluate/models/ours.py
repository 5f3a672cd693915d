"""A checkpoint of the Mamba layout in our engine, with bytes or a tokeniser of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seshu_swarm import checkpoints
from seshu_swarm.data.tokeniser import NUM_BYTES, NUM_SPECIAL, ByteTokeniser
from seshu_swarm.errors import PackageError
from seshu_swarm.mamba.whole import WholeModel

TOKENISER_FILES = ("tokenizer_config.json", "tokenizer.json")
BYTE_CLASS = "ByT5Tokenizer"


class OurModel:
    """`whole` can also be stepped through, token by token. Raises PackageError."""

    max_tokens: int | None = None

    def __init__(self, name: str, whole: WholeModel, tokeniser: Any = None) -> None:
        """`tokeniser`: None for bytes, else one of transformers."""
        self.name, self.whole, self._tokeniser = name, whole, tokeniser
        self._bytes = ByteTokeniser()
        self.vocab_size = whole.shape.vocab_size
        self.start_id, self.end_id = ends_of(name, tokeniser)

    @classmethod
    def open(cls, folder: Path, name: str) -> OurModel:
        whole = checkpoints.load_whole(folder).eval().requires_grad_(False)
        return cls(name, whole, tokeniser_of(folder, whole.shape.vocab_size))

    def before(self, prompt: str) -> list[int]:
        # As in training: rows begin with their prompt, packed documents follow an end.
        return self.encode(prompt) or [self.start_id]

    def encode(self, text: str) -> list[int]:
        if self._tokeniser is None:
            return self._bytes.encode(text)
        return list(self._tokeniser(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        if self._tokeniser is None:
            return self._bytes.decode(ids)
        return str(self._tokeniser.decode(ids, skip_special_tokens=True))

    def logits(self, ids_BL: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.whole.logits(ids_BL)

    def greedy(self, ids: Sequence[int]) -> Iterator[int]:
        with torch.inference_mode():
            given = torch.tensor([list(ids)], dtype=torch.int64)
            logits_BV, state = self.whole.prefill(given, self.whole.zero_state())
        while True:
            token = int(logits_BV[0].argmax())
            yield token
            with torch.inference_mode():
                logits_BV, state = self.whole.step(torch.tensor([token]), state)


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
