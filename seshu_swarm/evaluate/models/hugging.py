"""Any causal language model that transformers loads from a folder, with its own tokeniser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seshu_swarm.errors import PackageError
from seshu_swarm.evaluate.models.vocabulary import Vocabulary

LENGTHS = ("max_position_embeddings", "n_positions", "max_sequence_length")


class HuggingModel:
    """Code that comes with a model is never run. Raises PackageError."""

    def __init__(self, name: str, model: Any, vocabulary: Vocabulary) -> None:
        self.name, self._model, self._vocabulary = name, model, vocabulary
        self.vocab_size = int(model.config.vocab_size)
        self.end_id = vocabulary.end_id
        lengths = [getattr(model.config, key, None) for key in LENGTHS]
        self.max_tokens: int | None = next((one for one in lengths if one), None)

    @classmethod
    def open(cls, folder: Path, name: str) -> HuggingModel:
        from transformers import AutoModelForCausalLM

        try:
            model = AutoModelForCausalLM.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, dtype=torch.float32
            )
        except Exception as error:  # the library raises whatever a broken folder makes of it
            raise PackageError(
                f"{folder} holds no causal language model: {error}"[:400],
                rule="a folder that AutoModelForCausalLM of transformers loads without its own code",
                way_out="check the path, and that config.json and the weights lie in it",
            ) from None
        model.eval()
        return cls(name, model, Vocabulary.open(folder, name, int(model.config.vocab_size)))

    def before(self, prompt: str) -> list[int]:
        return [self._vocabulary.start_id, *self._vocabulary.encode_prompt(prompt)]

    def encode(self, text: str) -> list[int]:
        return self._vocabulary.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._vocabulary.decode(ids)

    def logits(self, ids_BL: Tensor) -> Tensor:
        with torch.inference_mode():
            logits_BLV: Tensor = self._model(ids_BL, use_cache=False).logits
        return logits_BLV

    def greedy(self, ids: Sequence[int]) -> Iterator[int]:
        """Each time from the last `max_tokens` ids, without a cache: any architecture can do it."""
        known = list(ids)
        while True:
            seen = known if self.max_tokens is None else known[-self.max_tokens :]
            known.append(int(self.logits(torch.tensor([seen]))[0, -1].argmax()))
            yield known[-1]
