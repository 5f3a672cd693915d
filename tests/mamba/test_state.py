"""The state of a session: batches, bytes, and bytes that must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from safetensors import torch as safetensors_torch

from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.spans import Span

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=8, num_blocks=6, d_state=4)
SPAN = Span(2, 5)
REVISION = "a" * 64


def random_state(*positions: int) -> RecurrentState:
    zeros = RecurrentState.zeros(SHAPE, SPAN, len(positions))
    conv, ssm = torch.randn_like(zeros.conv), torch.randn_like(zeros.ssm)
    return RecurrentState(conv, ssm, SPAN, positions)


def read(data: bytes) -> RecurrentState:
    return RecurrentState.from_bytes(data, shape=SHAPE, span=SPAN, revision=REVISION)


def test_zeros_have_the_documented_shapes_and_size() -> None:
    state = RecurrentState.zeros(SHAPE, SPAN, batch=2)
    assert state.conv.shape == (3, 2, 16, 3)
    assert state.ssm.shape == (3, 2, 16, 4)
    assert state.num_bytes == 4 * 3 * 2 * 16 * (3 + 4)
    assert state.positions == (0, 0)
    assert state.position == 0


def test_bytes_round_trip_bit_for_bit() -> None:
    state = random_state(17, 4)
    copy = read(state.to_bytes(revision=REVISION))
    assert torch.equal(copy.conv, state.conv)
    assert torch.equal(copy.ssm, state.ssm)
    assert (copy.span, copy.positions) == (SPAN, (17, 4))


def test_gather_then_scatter_gives_the_sessions_back() -> None:
    states = [random_state(3), random_state(9, 9), random_state(1)]
    batch = RecurrentState.gather(states)
    assert batch.positions == (3, 9, 9, 1)
    rows = batch.scatter()
    assert [row.position for row in rows] == [3, 9, 9, 1]
    assert torch.equal(rows[3].ssm, states[2].ssm)
    assert torch.equal(rows[1].conv[:, 0], states[1].conv[:, 0])
    with pytest.raises(UsageError):
        _ = batch.position


def test_scattered_and_cloned_states_share_no_memory() -> None:
    state = random_state(1)
    (row,), copy, kept = state.scatter(), state.clone(), state.ssm.clone()
    row.ssm.zero_()
    copy.ssm.zero_()
    assert torch.equal(state.ssm, kept)


def test_states_of_different_spans_do_not_mix() -> None:
    other = RecurrentState.zeros(SHAPE, Span(0, 1))
    with pytest.raises(UsageError):
        RecurrentState.gather([random_state(1), other])


def with_tensors(
    change: Callable[[dict[str, torch.Tensor]], object], positions: str = "[1]"
) -> bytes:
    state = random_state(1)
    tensors = {"conv": state.conv, "ssm": state.ssm}
    change(tensors)
    facts = f'{{"positions": {positions}, "revision": "{REVISION}", "span": "2:5"}}'
    data: bytes = safetensors_torch.save(tensors, {"state": facts})
    return data


def test_the_helper_of_the_hostile_cases_is_accepted_unchanged() -> None:
    assert read(with_tensors(lambda tensors: None)).position == 1


def set_value(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors[name].view(-1)[3:4].fill_(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 64,
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        with_tensors(set_value("ssm", float("nan"))),
        with_tensors(set_value("conv", float("inf"))),
        with_tensors(lambda t: t.update(extra=torch.zeros(1))),
        with_tensors(lambda t: t.pop("conv")),
        with_tensors(lambda t: t.update(ssm=t["ssm"].double())),
        with_tensors(lambda t: t.update(ssm=t["ssm"][:, :, :-1].contiguous())),
        with_tensors(lambda t: None, positions="[1, 2]"),
        with_tensors(lambda t: None, positions="[-1]"),
        with_tensors(lambda t: None, positions="[true]"),
        with_tensors(lambda t: None, positions="[]"),
        with_tensors(lambda t: None, positions="7"),
        with_tensors(lambda t: None)[:-4],
        with_tensors(lambda t: None) + b"\x00",
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(PackageError):
        read(data)


def test_another_revision_or_span_is_refused() -> None:
    data = random_state(1).to_bytes(revision=REVISION)
    with pytest.raises(PackageError, match="revision"):
        RecurrentState.from_bytes(data, shape=SHAPE, span=SPAN, revision="b" * 64)
    with pytest.raises(PackageError, match="span"):
        RecurrentState.from_bytes(data, shape=SHAPE, span=Span(1, 4), revision=REVISION)


def test_facts_that_are_not_a_table_are_refused() -> None:
    data = safetensors_torch.save({"conv": torch.zeros(1)}, {"state": json.dumps([1])})
    with pytest.raises(PackageError):
        read(data)
