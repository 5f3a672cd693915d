"""Nats of each text: windows that see some tokens before them, every token scored once.

The first token of a text comes after its prompt, or after the model's start; scores are of the whole
text, so that models with different tokenisers can be compared per native byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seshu_swarm.data.windows import Window
from seshu_swarm.errors import UsageError
from seshu_swarm.evaluate.bits import Nats, window_nats
from seshu_swarm.evaluate.models.base import ScoredModel
from seshu_swarm.evaluate.texts import Text

MAX_TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Cut:
    """How many tokens a window scores, and how many before them it sees."""

    window_tokens: int = 512
    context_tokens: int = 256

    def within(self, max_tokens: int | None) -> Cut:
        """The same, or what fits a model of limited length. Raises UsageError."""
        if max_tokens is None or self.window_tokens + self.context_tokens <= max_tokens + 1:
            return self
        if max_tokens < 2:
            raise UsageError(f"a model of {max_tokens} token(s)", rule="two or more")
        context = min(self.context_tokens, max_tokens // 2)
        return Cut(min(self.window_tokens, max_tokens + 1 - context), context)


def text_nats(
    model: ScoredModel, texts: Sequence[Text], cut: Cut | None = None, *, after: Sequence[int] = ()
) -> Nats:
    """Nats of each text, and of the ids `after` it; shape (num_texts,), float64."""
    cut = (cut or Cut()).within(model.max_tokens)
    windows, owners = [], []
    for index, text in enumerate(texts):
        before, ids = model.before(text.prompt), [*model.encode(text.text), *after]
        for window in windows_of(text.id, before, ids, cut):
            windows.append(window)
            owners.append(index)
    nats = np.zeros(len(texts))
    scores = window_nats(model, windows, max_tokens_per_batch=MAX_TOKENS_PER_BATCH)
    np.add.at(nats, owners, scores)
    return nats


def windows_of(
    document: str, before: Sequence[int], ids: Sequence[int], cut: Cut
) -> Iterator[Window]:
    """Windows over `ids`; the context is the end of what came before. `num_bytes` is not known."""
    known = [*before, *ids]
    for start in range(len(before), len(known), cut.window_tokens):
        first = max(0, start - cut.context_tokens)
        yield Window(document, tuple(known[first : start + cut.window_tokens]), start - first, 0)


def lossy_texts(model: ScoredModel, texts: Sequence[Text]) -> int:
    """How many texts the model's tokeniser cannot give back: their scores are too good."""
    return sum(model.decode(model.encode(text.text)) != text.text for text in texts)
