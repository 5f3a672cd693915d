"""8 bits against numbers by hand, hostile bytes, and a real model trained through them."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seshu_swarm.data import phrasebook
from seshu_swarm.errors import ProtocolError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.pipeline.eight_bit import BLOCK_SIZE, pack_tensor, unpack_tensor
from seshu_swarm.spans import Span
from seshu_swarm.streams import frames
from seshu_swarm.training.loop import make_optimiser
from seshu_swarm.training.schedule import Schedule


def round_trip(tensor: Tensor, block_size: int = BLOCK_SIZE) -> Tensor:
    return unpack_tensor(pack_tensor(tensor, block_size), list(tensor.shape), block_size)


def test_a_block_by_hand() -> None:
    tensor = torch.tensor(
        [[12.7, -6.34, 0.04, 0.06], [0.0, 0.0, 0.0, 0.0], [-1e-3, 5e-4, 0.0, 1e-3]]
    )
    packed = pack_tensor(tensor, block_size=4)
    assert np.frombuffer(packed["data"], np.int8).tolist() == [
        *(127, -63, 0, 1),
        *(0, 0, 0, 0),
        *(-127, 64, 0, 127),
    ]
    scales = np.frombuffer(packed["scales"]["data"], "<f4")
    np.testing.assert_allclose(scales, [0.1, 0.0, 1e-3 / 127], rtol=1e-6)
    expected = torch.tensor([[12.7, -6.3, 0.0, 0.1], [0.0] * 4, [-1e-3, 64e-3 / 127, 0.0, 1e-3]])
    torch.testing.assert_close(unpack_tensor(packed, [3, 4], 4), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 64), (4, 5, 100), (7,)])
@pytest.mark.parametrize("magnitude", [1e-30, 1e-8, 1.0, 1e30])
def test_an_error_is_at_most_half_a_scale_of_its_own_block(
    shape: tuple[int, ...], magnitude: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    tensor = torch.randn(shape, generator=generator) * magnitude
    error = (round_trip(tensor) - tensor).flatten().numpy().astype(np.float64)
    flat = tensor.flatten().numpy().astype(np.float64)
    for start in range(0, flat.size, BLOCK_SIZE):
        block = slice(start, start + BLOCK_SIZE)
        bound = np.abs(flat[block]).max() / 254
        assert np.abs(error[block]).max() <= bound * (1 + 1e-4)


def test_one_outlier_costs_its_own_block_only() -> None:
    tensor = torch.full((1, 2, 64), 0.5)
    tensor[0, 0, 3] = 100.0
    found = round_trip(tensor)
    assert (found[0, 0] - tensor[0, 0]).abs().max() > 0.2
    torch.testing.assert_close(found[0, 1], tensor[0, 1], rtol=1e-6, atol=0.0)


def test_the_relative_error_of_normal_numbers_is_that_of_the_literature() -> None:
    """Uniform rounding: the root mean square is scale / √12. The square of the greatest of 64 is, on
    average, the integral of 2x (1 - erf(x/√2)^64); the greatest itself has no error."""
    x = np.linspace(0.0, 8.0, 20_001)
    erf = np.array([math.erf(value / math.sqrt(2)) for value in x])
    square = np.trapezoid(2 * x * (1 - erf**64), x)
    tensor = torch.randn((64, 64, 64), generator=torch.Generator().manual_seed(2))
    error = (round_trip(tensor) - tensor).square().mean().sqrt().item()
    assert error == pytest.approx(math.sqrt(square / 12 * 63 / 64) / 127, rel=0.01)


def test_the_same_bytes_each_time() -> None:
    tensor = torch.randn((4, 256, 96), generator=torch.Generator().manual_seed(3))
    assert pack_tensor(tensor) == pack_tensor(tensor.clone())


@pytest.mark.parametrize("d_model", [256, 512, 768])
def test_bytes_of_a_token_with_all_that_is_around_it(d_model: int) -> None:
    """Forward and backward: at most 2.2 × d_model, as the frame travels."""
    hidden = torch.randn((4, 256, d_model))
    num_bytes = 2 * len(frames.encode(frames.FrameKind.MESSAGE, pack_tensor(hidden)))
    assert num_bytes / (4 * 256) <= 2.2 * d_model


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2e38])
def test_numbers_that_are_not_finite_are_not_sent(bad: float) -> None:
    tensor = torch.ones((1, 3, 64))
    tensor[0, 1, 7] = bad
    with pytest.raises(ProtocolError, match="holds NaN, infinity"):
        pack_tensor(tensor)


def test_numbers_next_to_0_are_0() -> None:
    assert round_trip(torch.tensor([1e-36, -1e-44, 0.0])).tolist() == [0.0, 0.0, 0.0]


def scales_of(*values: float) -> dict[str, Any]:
    data = np.array(values, "<f4").tobytes()
    return {"dtype": "float32", "shape": [len(values)], "data": data}


HOSTILE: dict[str, dict[str, Any]] = {
    "another type": {"dtype": "float32"},
    "a type that is no text": {"dtype": ["int8"]},
    "another shape": {"shape": [2, 32]},
    "a shape of text": {"shape": "1,64"},
    "too short": {"data": bytes(63)},
    "too long": {"data": bytes(65)},
    "no bytes": {"data": "x" * 64},
    "a byte that no encoder makes": {"data": b"\x80" + bytes(63)},
    "NaN as a scale": {"scales": scales_of(math.nan)},
    "an infinite scale": {"scales": scales_of(math.inf)},
    "a negative scale": {"scales": scales_of(-1.0)},
    "a scale that overflows": {"scales": scales_of(3e38)},
    "too many scales": {"scales": scales_of(1.0, 1.0)},
    "scales of another type": {"scales": {**scales_of(1.0), "dtype": "bfloat16"}},
    "no scales": {"scales": None},
    "one field more": {"more": 1},
}


@pytest.mark.parametrize("changed", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_refused(changed: dict[str, Any]) -> None:
    packed = pack_tensor(torch.ones((1, 64)))
    unpack_tensor(packed, [1, 64])
    with pytest.raises(ProtocolError):
        unpack_tensor({**packed, **changed}, [1, 64])


@pytest.mark.parametrize("packed", [None, [], b"", 7, {}])
def test_what_is_no_tensor_is_refused(packed: object) -> None:
    with pytest.raises(ProtocolError, match="dtype, shape, data, scales"):
        unpack_tensor(packed, [1])


class Wire(torch.autograd.Function):
    """A boundary of the pipeline: activations there, gradients back, both as 8 bits."""

    @staticmethod
    def forward(context: Any, hidden_BLM: Tensor) -> Tensor:
        return round_trip(hidden_BLM)

    @staticmethod
    def backward(context: Any, *gradients_BLM: Tensor) -> Tensor:
        return round_trip(gradients_BLM[0])


def losses_of(boundaries: tuple[int, ...], num_steps: int) -> list[float]:
    """Nats of a byte in every step of a small model, whose stream is cut before these blocks."""
    torch.manual_seed(5)
    model = WholeModel(MambaShape(d_model=32, num_blocks=4))
    optimiser = make_optimiser(model, Schedule(learning_rate=3e-3, weight_decay=0.1))
    rng = random.Random(6)
    text = " ".join(d.text for d in phrasebook.documents_of("hi", 200, rng)).encode()
    data, losses = np.frombuffer(text, np.uint8).astype(np.int64), []
    for _ in range(num_steps):
        starts = [rng.randrange(len(data) - 33) for _ in range(4)]
        ids_BL = torch.from_numpy(np.stack([data[start : start + 33] for start in starts]))
        loss = _loss(model, ids_BL, boundaries)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return losses


def _loss(model: WholeModel, ids_BL: Tensor, boundaries: tuple[int, ...]) -> Tensor:
    hidden_BLM = model.ends.embed(ids_BL[:, :-1])
    cuts = [0, *boundaries, model.shape.num_blocks]
    for start, end in itertools.pairwise(cuts):
        if start in boundaries:
            hidden_BLM = cast(Tensor, Wire.apply(hidden_BLM))
        hidden_BLM, _ = model.span.part(Span(start, end))(hidden_BLM)
    logits_BLV = model.ends.logits(hidden_BLM)
    return nn.functional.cross_entropy(logits_BLV.flatten(0, 1), ids_BL[:, 1:].flatten())


def test_a_model_learns_through_8_bits_as_in_float32() -> None:
    torch.set_num_threads(1)
    exact, through = losses_of((), 40), losses_of((1, 2, 3), 40)
    assert exact[-1] < 0.75 * exact[0]
    assert through[0] != exact[0]
    late = sum(exact[-10:]), sum(through[-10:])
    assert late[1] == pytest.approx(late[0], rel=0.02)
