"""The next token from logits."""

from __future__ import annotations

import torch
from torch import Tensor


class Sampler:
    """Greedy at temperature 0; otherwise from the softmax, with its own generator."""

    def __init__(self, temperature: float, seed: int) -> None:
        self._temperature = temperature
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, logits_V: Tensor) -> int:
        if self._temperature == 0:
            return int(logits_V.argmax())
        probabilities_V = torch.softmax(logits_V.double() / self._temperature, dim=-1)
        return int(torch.multinomial(probabilities_V, 1, generator=self._generator))
