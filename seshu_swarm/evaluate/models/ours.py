"""A checkpoint of the Mamba layout, or its int8 export, in our engine, with bytes or a tokeniser of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from seshu_swarm import checkpoints
from seshu_swarm.checkpoints.int8 import is_int8, load_int8
from seshu_swarm.evaluate.models.vocabulary import Vocabulary
from seshu_swarm.mamba.whole import WholeModel


class OurModel:
    """`whole` can also be stepped through, token by token. Raises PackageError."""

    max_tokens: int | None = None

    def __init__(self, name: str, whole: WholeModel, vocabulary: Vocabulary | None = None) -> None:
        """`vocabulary`: of bytes, by default."""
        self.name, self.whole, self._vocabulary = name, whole, vocabulary or Vocabulary(name)
        self.vocab_size = whole.shape.vocab_size
        self.start_id, self.end_id = self._vocabulary.start_id, self._vocabulary.end_id

    @classmethod
    def open(cls, folder: Path, name: str) -> OurModel:
        whole = load_int8(folder) if is_int8(folder) else checkpoints.load_whole(folder)
        whole = whole.eval().requires_grad_(False)
        return cls(name, whole, Vocabulary.open(folder, name, whole.shape.vocab_size))

    def before(self, prompt: str) -> list[int]:
        # As in training: rows begin with their prompt, packed documents follow an end.
        return self._vocabulary.encode_prompt(prompt) or [self.start_id]

    def encode(self, text: str) -> list[int]:
        return self._vocabulary.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._vocabulary.decode(ids)

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
