"""Negative log likelihood of windows, and bits per byte.

A window is some context and a scored part; every scored token is predicted from all tokens before
it in the window. Windows of like length share a batch, padded on the right: the model is causal,
so padding cannot reach a scored token. Shapes: B batch, L length, V vocab_size, N scored tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from seshu_swarm.data.windows import Window
from seshu_swarm.errors import DataError

PAD_ID = 0
ROWS_PER_CHUNK = 1024

Nats = NDArray[np.float64]


class Model(Protocol):
    """What is scored: anything causal with logits of every position."""

    def logits(self, ids_BL: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, length, vocab_size)."""
        ...


def window_nats(
    model: Model, windows: Sequence[Window], *, max_tokens_per_batch: int = 2048
) -> Nats:
    """Nats of the scored part of each window, shape (num_windows,), float64.

    Raises DataError for a window without context or without a scored token.
    """
    for window in windows:
        _check(window)
    nats = np.zeros(len(windows))
    with torch.inference_mode():
        for batch in batches([len(w.ids) - 1 for w in windows], max_tokens_per_batch):
            nats[batch] = _batch_nats(model, [windows[i] for i in batch])
    return nats


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """Total nats over the bytes of the original text (UTF-8, NFC, native script)."""
    return float(nats) / (math.log(2) * num_bytes)


def _check(window: Window) -> None:
    if not 1 <= window.num_context_tokens < len(window.ids):
        raise DataError(
            f"window of {window.document!r} with {window.num_context_tokens} tokens of context "
            f"among {len(window.ids)}",
            rule="at least one token of context and one that is scored",
        )


def batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices in batches whose padded size stays within `max_tokens` (one window always fits)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        # The first window of a batch is its longest.
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _batch_nats(model: Model, windows: list[Window]) -> Nats:
    length = max(len(window.ids) for window in windows)
    ids_BL = torch.full((len(windows), length), PAD_ID, dtype=torch.long)
    scored_BL = torch.zeros((len(windows), length - 1), dtype=torch.bool)
    for row, window in enumerate(windows):
        ids_BL[row, : len(window.ids)] = torch.tensor(window.ids)
        # Token t is predicted at position t - 1.
        scored_BL[row, window.num_context_tokens - 1 : len(window.ids) - 1] = True
    logits_BLV = model.logits(ids_BL[:, :-1])
    token_nats_N = _token_nats(logits_BLV[scored_BL], ids_BL[:, 1:][scored_BL])
    rows_N = scored_BL.nonzero()[:, 0]
    totals_B = torch.zeros(len(windows), dtype=torch.float64).index_add_(0, rows_N, token_nats_N)
    result: Nats = totals_B.numpy()
    return result


def _token_nats(logits_NV: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """Float64 log-softmax, a chunk of rows at a time; shape (N,)."""
    parts = [
        -logits_CV.double().log_softmax(dim=-1).gather(1, targets_C[:, None])[:, 0]
        for logits_CV, targets_C in zip(
            logits_NV.split(ROWS_PER_CHUNK), targets_N.split(ROWS_PER_CHUNK), strict=True
        )
    ]
    return torch.cat(parts)
