"""Steps through many texts at once: what is next is chosen, absorbed, and the walk goes on.

Who codes and who decodes walk the same way over the same shapes, so both see bit-equal probabilities;
they differ in `choose` alone. A text ends with the end id, which is chosen like any other: nobody needs
to know lengths. Where one has ended the next text takes its row. Windows are those of the scores: each
begins anew with some tokens of context.

Shapes: A rows, V vocab_size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

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
Place = tuple[int, int]
"""A text, and how many of its ids are known."""
Choose = Callable[[NDArray[np.float64], Sequence[Place]], Ids]
"""(probabilities (A, V), where) → the next id at each of these places, (A,)."""
OnTexts = Callable[[int, int], None]
"""Hears how many texts are done, and of how many."""


@dataclass(frozen=True)
class Bounds:
    """The id that texts begin after, and the one that ends them."""

    start_id: int
    end_id: int


@dataclass
class _Row:
    text: int
    ids: list[int]
    """Behind the start id."""

    @property
    def place(self) -> Place:
        return self.text, len(self.ids) - 1


def walk(
    model: WholeModel,
    num_texts: int,
    choose: Choose,
    *,
    bounds: Bounds,
    cut: Cut,
    on_texts: OnTexts = lambda done, total: None,
) -> list[list[int]]:
    """The ids of all texts, without their ends."""
    found: dict[int, list[int]] = {}
    waiting = (_Row(text, [bounds.start_id]) for text in range(num_texts))
    rows = list(itertools.islice(waiting, ROWS))
    state = model.zero_state(len(rows))
    with torch.inference_mode():
        while rows:
            logits_AV, state = _advance(model, rows, state, cut)
            chosen = choose(probabilities(logits_AV), [row.place for row in rows])
            for row, token in zip(rows, chosen.tolist(), strict=True):
                row.ids.append(token)
            ended = [row.ids[-1] == bounds.end_id for row in rows]
            if any(ended):
                found |= {row.text: row.ids[1:-1] for row in itertools.compress(rows, ended)}
                rows, state = _refilled(rows, ended, state, waiting)
                on_texts(len(found), num_texts)
    return [found[text] for text in range(num_texts)]


def _advance(
    model: WholeModel, rows: Sequence[_Row], state: RecurrentState, cut: Cut
) -> tuple[Tensor, RecurrentState]:
    """Logits (A, V) of what comes next in each row; a window that begins reads its context anew."""
    logits_AV, state = model.step(torch.tensor([row.ids[-1] for row in rows]), state)
    for at, row in enumerate(rows):
        position = len(row.ids) - 1
        if position % cut.window_tokens == 0:
            context = row.ids[max(0, position + 1 - cut.context_tokens) :]
            logits_AV[at : at + 1], fresh = model.prefill(
                torch.tensor([context]), model.zero_state()
            )
            state.conv[:, at], state.ssm[:, at] = fresh.conv[:, 0], fresh.ssm[:, 0]
    return logits_AV, state


def _refilled(
    rows: Sequence[_Row], ended: Sequence[bool], state: RecurrentState, waiting: Iterator[_Row]
) -> tuple[list[_Row], RecurrentState]:
    """A text that waits in each row of one that has ended; where none waits the row falls away."""
    now = [
        next(waiting, None) if is_over else row for row, is_over in zip(rows, ended, strict=True)
    ]
    kept = [at for at, row in enumerate(now) if row is not None]
    if len(kept) < len(rows):
        conv, ssm = state.conv[:, kept].contiguous(), state.ssm[:, kept].contiguous()
        positions = tuple(state.positions[at] for at in kept)
        state = replace(state, conv=conv, ssm=ssm, positions=positions)
    return [row for row in now if row is not None], state


def probabilities(logits_AV: Tensor) -> NDArray[np.float64]:
    """Softmax in float64, as scores are; shape (A, V)."""
    result: NDArray[np.float64] = logits_AV.double().softmax(dim=-1).numpy()
    return result
