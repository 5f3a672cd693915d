"""The bench's Transformer, against attention written out in float64 with complex rotations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seshu_swarm.bench.engine.transformer import Transformer, TransformerShape
from seshu_swarm.mamba.shape import MambaShape

SHAPE = TransformerShape(d_model=128, num_blocks=2, mlp_width=40, vocab_size=50)


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    model = Transformer(SHAPE)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)  # a norm whose weight were left out would show
            else:
                parameter.mul_(5)  # attention far from uniform
    return model


def loop_logits(model: Transformer, ids_L: list[int]) -> Tensor:
    """One sequence's logits (length, vocab_size): heads, queries and keys in plain loops."""
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}

    def norm(x: Tensor, name: str) -> Tensor:
        epsilon = torch.finfo(torch.float32).eps
        scale: Tensor = (x.pow(2).mean(-1, keepdim=True) + epsilon).rsqrt()
        normed: Tensor = x * scale * weights[name + ".weight"]
        return normed

    hidden = weights["embeddings.weight"][ids_L]
    for index in range(SHAPE.num_blocks):
        block = f"blocks.{index}."
        x = norm(hidden, block + "attention_norm")
        q, k, v = (x @ weights[block + "attention.in_proj.weight"].T).chunk(3, dim=-1)
        mixed = torch.zeros_like(x)
        for head in range(0, SHAPE.d_model, 64):
            part = slice(head, head + 64)
            query, key = turned(q[:, part]), turned(k[:, part])
            for t in range(len(ids_L)):
                scores = torch.stack([(query[t] * key[s].conj()).real.sum() for s in range(t + 1)])
                mixed[t, part] = (scores / 8).softmax(0) @ v[: t + 1, part]
        hidden = hidden + mixed @ weights[block + "attention.out_proj.weight"].T
        x = norm(hidden, block + "mlp_norm")
        gate, up = (x @ weights[block + "gate_and_up.weight"].T).chunk(2, dim=-1)
        hidden = hidden + (gate * gate.sigmoid() * up) @ weights[block + "down.weight"].T
    logits: Tensor = norm(hidden, "norm_f") @ weights["embeddings.weight"].T
    return logits


def turned(x_LE: Tensor) -> Tensor:
    """Pairs of a head's numbers as complex ones, turned by position times 10000^(-pair / 32)."""
    pairs = torch.complex(x_LE[:, :32], x_LE[:, 32:])
    rows = []
    for position, row in enumerate(pairs):
        angles = torch.tensor([position * 10_000 ** (-pair / 32) for pair in range(32)]).double()
        rows.append(row * torch.polar(torch.ones_like(angles), angles))
    return torch.stack(rows)


def test_logits_equal_attention_written_out(model: Transformer) -> None:
    ids = [3, 14, 15, 9, 26, 5, 35]
    with torch.no_grad():
        found = model.logits(torch.tensor([ids]))[0]
    reference = loop_logits(model, ids)
    assert reference.abs().max() > 1  # not all zeros, which would equal anything
    torch.testing.assert_close(found.double(), reference, rtol=1e-3, atol=1e-3)


def test_cached_decoding_equals_the_full_forward(model: Transformer) -> None:
    """Over more tokens than a cache has room for at first, two sessions at once."""
    ids_BL = torch.randint(50, (2, 90))
    with torch.inference_mode():
        full_BLV = model.logits(ids_BL)
        logits_BV, cache = model.prefill(ids_BL[:, :10])
        torch.testing.assert_close(logits_BV, full_BLV[:, 9], rtol=1e-4, atol=1e-4)
        for position in range(10, 90):
            logits_BV, cache = model.step(ids_BL[:, position], cache)
            torch.testing.assert_close(logits_BV, full_BLV[:, position], rtol=1e-4, atol=1e-4)
    # 90 tokens, two sessions, two blocks, keys and values of 128 float32 each.
    assert cache.position == 90 and cache.num_bytes == 90 * 2 * 2 * 2 * 128 * 4


def test_the_same_step_twice_is_the_same_step(model: Transformer) -> None:
    """The bench repeats it so that the past keeps its length."""
    ids_BL = torch.randint(50, (1, 20))
    with torch.inference_mode():
        _, cache = model.prefill(ids_BL)
        first, _ = model.step(ids_BL[:, 0], cache)
        again, after = model.step(ids_BL[:, 0], cache)
    assert torch.equal(first, again) and after.position == 21


@pytest.mark.parametrize(
    "mamba",
    [
        MambaShape(d_model=256, num_blocks=4),
        MambaShape(d_model=768, num_blocks=2),
        MambaShape(d_model=32, num_blocks=2),
        MambaShape(d_model=64, num_blocks=1),
    ],
    ids=lambda shape: f"{shape.d_model}x{shape.num_blocks}",
)
def test_it_has_as_many_parameters_as_the_mamba(mamba: MambaShape) -> None:
    with torch.device("meta"):
        model = Transformer(TransformerShape.like(mamba))
    counted = sum(math.prod(parameter.shape) for parameter in model.parameters())
    assert counted == pytest.approx(mamba.num_parameters, rel=0.02)
