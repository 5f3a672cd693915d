"""Any scored model as the LM of lm-evaluation-harness.

Context and continuation become ids apart, without an end token; an empty context is what a text of
the model begins after. Needs the extra `evaluation`.

Shapes: B batch, L length, N tokens of one continuation, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.model import LM
from torch import Tensor

from seshu_swarm.evaluate.bits import PAD_ID, batches
from seshu_swarm.evaluate.models.base import ScoredModel
from seshu_swarm.evaluate.models.scoring import MAX_TOKENS_PER_BATCH, Cut, text_nats
from seshu_swarm.evaluate.texts import Text

MAX_NEW_TOKENS = 256

Scored = tuple[float, bool]


class HarnessModel(LM):
    """`requests` are the harness's; only their arguments are read."""

    def __init__(self, model: ScoredModel, cut: Cut | None = None) -> None:
        super().__init__()
        self._model, self._cut = model, cut or Cut()

    def loglikelihood(self, requests: list[Any]) -> list[Scored]:
        """Log-likelihood in nats of each continuation, and whether greedy decoding would give it."""
        pairs = [self._pair(*request.args) for request in requests]
        found: list[Scored] = [(0.0, True)] * len(pairs)
        lengths = [max(1, len(ids) - 1) for ids, _ in pairs]
        for batch in batches(lengths, MAX_TOKENS_PER_BATCH):
            for index, scored in zip(batch, self._scored([pairs[i] for i in batch]), strict=True):
                found[index] = scored
        return found

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Log-likelihood in nats of whole texts, in the windows that `evaluate` scores in."""
        texts = [Text(str(n), "", "", r.args[0], "") for n, r in enumerate(requests)]
        return [-float(nats) for nats in text_nats(self._model, texts, self._cut)]

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Greedy text up to a stop text, the end of the text, or `max_gen_toks`."""
        return [self._generated(*request.args) for request in requests]

    def _pair(self, context: str, continuation: str) -> tuple[list[int], int]:
        """Ids of both, cut on the left to what the model takes, and how many are scored."""
        scored = self._model.encode(continuation)
        ids = [*self._model.before(context), *scored]
        if self._model.max_tokens is not None:
            ids = ids[-(self._model.max_tokens + 1) :]
        return ids, min(len(scored), len(ids) - 1)

    def _scored(self, pairs: Sequence[tuple[list[int], int]]) -> list[Scored]:
        length = max(len(ids) for ids, _ in pairs)
        ids_BL = torch.full((len(pairs), length), PAD_ID, dtype=torch.long)
        for row, (ids, _) in enumerate(pairs):
            ids_BL[row, : len(ids)] = torch.tensor(ids)
        # Causal: padding on the right reaches nothing that is scored.
        logits_BLV = self._model.logits(ids_BL[:, : max(1, length - 1)])
        return [
            _score(logits_BLV[row, len(ids) - 1 - count : len(ids) - 1], ids[len(ids) - count :])
            for row, (ids, count) in enumerate(pairs)
        ]

    def _generated(self, context: str, options: dict[str, Any]) -> str:
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        most = int(options.get("max_gen_toks", MAX_NEW_TOKENS))
        ids: list[int] = []
        text = ""
        for token in self._model.greedy(self._model.before(context)):
            if len(ids) == most or token == self._model.end_id:
                break
            ids.append(token)
            text = self._model.decode(ids)
            if any(stop in text for stop in stops):
                break
        return _before_any(text, stops)


def _score(logits_NV: Tensor, ids: Sequence[int]) -> Scored:
    targets_N = torch.tensor(ids, dtype=torch.long)
    logprobs_NV = logits_NV.double().log_softmax(dim=-1)
    total = float(logprobs_NV.gather(1, targets_N[:, None]).sum())
    return total, bool((logits_NV.argmax(dim=-1) == targets_N).all())


def _before_any(text: str, stops: Sequence[str]) -> str:
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
