"""Steps through many texts at once: what is next is chosen, absorbed, and the walk goes on.

Who codes and who decodes walk the same way over the same shapes, so both see bit-equal probabilities;
they differ in `choose` alone. Windows are those of the scores: each begins anew with some tokens of
context. Texts of like length walk together, longest first; those that have ended fall away.

Shapes: A texts still walking, V vocab_size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seshu_swarm.evaluate.models.scoring import Cut
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.mamba.whole import WholeModel

# The engine takes a step of so many rows in one native call, whose sums have one order.
ROWS = 16

Ids = NDArray[np.int64]
Choose = Callable[[NDArray[np.float64], Sequence[int], int], Ids]
"""(probabilities (A, V), which texts, position) → the id of each text there, (A,)."""
OnTokens = Callable[[int, int], None]
"""Hears after each batch how many tokens are done, and of how many."""


def walk(
    model: WholeModel,
    lengths: Sequence[int],
    choose: Choose,
    *,
    start_id: int,
    cut: Cut,
    on_tokens: OnTokens = lambda done, total: None,
) -> list[Ids]:
    """The ids of all texts, each of its length."""
    found = [np.zeros(0, dtype=np.int64)] * len(lengths)
    longest_first = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    done = 0
    with torch.inference_mode():
        for first in range(0, len(longest_first), ROWS):
            batch = longest_first[first : first + ROWS]
            ids = _walk_batch(model, batch, lengths, choose, start_id, cut)
            for row, index in enumerate(batch):
                found[index] = ids[row, 1 : lengths[index] + 1]
            done += sum(lengths[index] for index in batch)
            on_tokens(done, sum(lengths))
    return found


def _walk_batch(
    model: WholeModel,
    batch: Sequence[int],
    lengths: Sequence[int],
    choose: Choose,
    start_id: int,
    cut: Cut,
) -> Ids:
    """Start id and ids of texts of falling lengths, a row each."""
    longest = lengths[batch[0]]
    ids = np.full((len(batch), longest + 1), start_id, dtype=np.int64)
    state = model.zero_state(len(batch))
    for position in range(longest):
        active = sum(lengths[index] > position for index in batch)
        known = torch.from_numpy(ids[:active, : position + 1])
        if position % cut.window_tokens == 0:
            context = known[:, max(0, position + 1 - cut.context_tokens) :]
            logits, state = model.prefill(context, model.zero_state(active))
        else:
            logits, state = model.step(known[:, -1].contiguous(), _first_rows(state, active))
        ids[:active, position + 1] = choose(probabilities(logits), batch[:active], position)
    return ids


def probabilities(logits_AV: Tensor) -> NDArray[np.float64]:
    """Softmax in float64, as scores are; shape (A, V)."""
    result: NDArray[np.float64] = logits_AV.double().softmax(dim=-1).numpy()
    return result


def _first_rows(state: RecurrentState, count: int) -> RecurrentState:
    if count == state.batch:
        return state
    return dataclasses.replace(
        state,
        conv=state.conv[:, :count].contiguous(),
        ssm=state.ssm[:, :count].contiguous(),
        positions=state.positions[:count],
    )
