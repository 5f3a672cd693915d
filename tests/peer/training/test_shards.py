"""Every number is averaged by exactly one member, in an order that does not depend on who asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seshu_swarm.errors import ProtocolError
from seshu_swarm.peer.training import shards
from seshu_swarm.peer.training.shards import Shards


@pytest.mark.parametrize("num_values", [0, 1, 3, 7, 1000])
@pytest.mark.parametrize("num_members", [1, 2, 3, 5, 8])
def test_shards_are_the_vector_cut_evenly(num_members: int, num_values: int) -> None:
    names = [f"m{index}" for index in range(num_members)]
    cut = Shards(tuple((name, 1) for name in reversed(names)), num_values)
    places = [number for name in names for number in range(num_values)[cut.of(name)]]
    assert places == list(range(num_values))
    sizes = [cut.num_bytes(name) for name in names]
    assert sum(sizes) == 4 * num_values and max(sizes) - min(sizes) <= 4


def test_bytes_exchanged_are_those_of_all_streams() -> None:
    cut = Shards((("a", 1), ("b", 1), ("c", 1)), 10)
    sent = {name: 0 for name in "abc"}
    for sender in "abc":
        for owner in sorted({*"abc"} - {sender}):
            for end in (sender, owner):
                sent[end] += 2 * cut.num_bytes(owner)
    assert {name: cut.num_bytes_exchanged(name) for name in "abc"} == sent


def test_the_mean_is_rounded_once_from_float64() -> None:
    sums = {name: torch.randn(50, generator=torch.Generator().manual_seed(k)) * 1e3
            for k, name in enumerate(["c", "a", "b"])}  # fmt: skip
    wide = np.sum([sums[name].double().numpy() for name in "abc"], axis=0)
    assert shards.mean(sums, 7).numpy().tobytes() == (wide / 7).astype(np.float32).tobytes()
    backwards = dict(reversed(list(sums.items())))
    assert torch.equal(shards.mean(sums, 7), shards.mean(backwards, 7))


def test_a_mean_keeps_what_float32_would_lose() -> None:
    sums = {"a": torch.tensor([1e8]), "b": torch.tensor([1.0]), "c": torch.tensor([-1e8])}
    assert shards.mean(sums, 1).item() == 1.0


def test_what_leaves_the_range_is_refused() -> None:
    sums = {"a": torch.tensor([3e38]), "b": torch.tensor([3e38])}
    assert shards.mean(sums, 2).item() == pytest.approx(3e38)
    with pytest.raises(ProtocolError, match="overflows"):
        shards.mean(sums, 1)


def test_numbers_travel_as_little_endian_float32() -> None:
    values_S = torch.tensor([1.0, -2.5])
    assert shards.to_bytes(values_S) == b"\x00\x00\x80\x3f\x00\x00\x20\xc0"
    assert torch.equal(shards.from_bytes(shards.to_bytes(values_S), "a shard"), values_S)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused_with_its_name(bad: float) -> None:
    data = shards.to_bytes(torch.tensor([1.0, bad]))
    with pytest.raises(ProtocolError, match="the shard of b holds NaN"):
        shards.from_bytes(data, "the shard of b")
