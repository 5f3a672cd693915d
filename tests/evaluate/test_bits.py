"""Window scores equal a token-by-token reference; batching and padding change nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from seshu_swarm.data.windows import Window
from seshu_swarm.errors import DataError
from seshu_swarm.evaluate.bits import bits_per_byte, window_nats
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

SHAPE = MambaShape(d_model=8, num_blocks=2, vocab_size=32, d_state=4, dt_rank=1)


@pytest.fixture(scope="module")
def model() -> WholeModel:
    torch.manual_seed(0)
    return WholeModel(SHAPE).double()


def windows(lengths: list[tuple[int, int]]) -> list[Window]:
    """One window per (tokens of context, scored tokens)."""
    rng = np.random.default_rng(0)
    return [
        Window(f"d{i}", tuple(rng.integers(0, 32, context + scored).tolist()), context, scored)
        for i, (context, scored) in enumerate(lengths)
    ]


MIXED = [(1, 1), (5, 9), (30, 2), (1, 40), (12, 12), (2, 1), (7, 33), (1, 1)]


def by_prefixes(model: WholeModel, window: Window) -> float:
    """Each scored token from a run over its own prefix, softmax in numpy."""
    total = 0.0
    for t in range(window.num_context_tokens, len(window.ids)):
        with torch.no_grad():
            logits = model.logits(torch.tensor([window.ids[:t]]))[0, -1].numpy().astype(np.float64)
        shifted = logits - logits.max()
        total += math.log(np.exp(shifted).sum()) - shifted[window.ids[t]]
    return total


def test_equals_one_prefix_at_a_time(model: WholeModel) -> None:
    sample = windows(MIXED)
    expected = [by_prefixes(model, window) for window in sample]
    np.testing.assert_allclose(window_nats(model, sample), expected, rtol=1e-10)


@pytest.mark.parametrize("max_tokens", [1, 50, 100, 8192])
def test_batches_and_padding_change_nothing(model: WholeModel, max_tokens: int) -> None:
    sample = windows(MIXED)
    alone = np.concatenate([window_nats(model, [window]) for window in sample])
    together = window_nats(model, sample, max_tokens_per_batch=max_tokens)
    assert together.dtype == np.float64
    np.testing.assert_allclose(together, alone, rtol=1e-12)


class Watched:
    """Passes on to a model and remembers the sizes of the batches."""

    def __init__(self, model: WholeModel) -> None:
        self.model, self.sizes = model, [(0, 0)]

    def logits(self, ids_BL: torch.Tensor) -> torch.Tensor:
        self.sizes.append((ids_BL.shape[0], ids_BL.shape[1]))
        return self.model.logits(ids_BL)


def test_batches_stay_within_the_limit_and_are_full(model: WholeModel) -> None:
    watched = Watched(model)
    window_nats(watched, windows([(1, 10)] * 9 + [(1, 40)]), max_tokens_per_batch=50)
    # The long one brings a short one along only where both, padded, fit.
    assert sorted(watched.sizes[1:]) == [(1, 40), (4, 10), (5, 10)]


def test_no_windows(model: WholeModel) -> None:
    assert window_nats(model, []).shape == (0,)


@pytest.mark.parametrize("context", [0, 3, 4])
def test_windows_that_cannot_be_scored(model: WholeModel, context: int) -> None:
    with pytest.raises(DataError):
        window_nats(model, [Window("d", (1, 2, 3), context, 1)])


def test_bits_per_byte_by_hand() -> None:
    # A uniform guess among 256 bytes costs eight bits each.
    assert bits_per_byte(10 * math.log(256), 10) == pytest.approx(8)
    # Two tokens of three bytes each, half a bit per byte.
    assert bits_per_byte(3 * math.log(2), 6) == pytest.approx(0.5)


def test_many_rows_pass_through_chunks(model: WholeModel) -> None:
    sample = windows([(1, 400)] * 4)
    alone = np.concatenate([window_nats(model, [window]) for window in sample])
    np.testing.assert_allclose(window_nats(model, sample), alone, rtol=1e-12)
