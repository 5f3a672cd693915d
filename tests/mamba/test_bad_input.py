"""What does not fit an operator, a span or a session is refused by name, with both values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.mamba.conv import causal_conv1d
from seshu_swarm.mamba.kernels.inputs import ConvInputs, ScanInputs
from seshu_swarm.mamba.scan import selective_scan
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.spans import Span

torch.set_num_threads(1)

BATCH, LENGTH, D_INNER, D_STATE, D_CONV = 2, 5, 4, 3, 4
SHAPE = MambaShape(d_model=8, num_blocks=4)
REVISION, OTHER_REVISION = "a" * 64, "b" * 64


def scan_tensors() -> dict[str, Tensor]:
    row, channels = (BATCH, LENGTH, D_INNER), (D_INNER,)
    sizes = {
        "u": row,
        "delta": row,
        "A": (D_INNER, D_STATE),
        "B": (BATCH, LENGTH, D_STATE),
        "C": (BATCH, LENGTH, D_STATE),
        "D": channels,
        "z": row,
        "delta_bias": channels,
        "state": (BATCH, D_INNER, D_STATE),
    }
    return {name: torch.zeros(size) for name, size in sizes.items()} | {"lengths": lengths(5, 0)}


def conv_tensors() -> dict[str, Tensor]:
    sizes = {
        "x": (BATCH, LENGTH, D_INNER),
        "weight": (D_INNER, D_CONV),
        "bias": (D_INNER,),
        "state": (BATCH, D_INNER, D_CONV - 1),
    }
    return {name: torch.zeros(size) for name, size in sizes.items()} | {"lengths": lengths(5, 0)}


def lengths(*values: int) -> Tensor:
    return torch.tensor(values)


OPERATORS: dict[str, tuple[Any, dict[str, Tensor], str]] = {
    "scan": (ScanInputs, scan_tensors(), "u"),
    "conv": (ConvInputs, conv_tensors(), "x"),
}
ALL = [(operator, name) for operator, (_, tensors, _) in OPERATORS.items() for name in tensors]
OTHERS = [(operator, name) for operator, name in ALL if name != OPERATORS[operator][2]]
FLOATING = [(operator, name) for operator, name in ALL if name != "lengths"]


def refusal(operator: str, **change: Tensor) -> str:
    make, tensors, _ = OPERATORS[operator]
    with pytest.raises(UsageError) as caught:
        make(**(tensors | change))
    return str(caught.value)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_the_bad_ones_vary_is_accepted(operator: str, dtype: torch.dtype) -> None:
    make, tensors, first = OPERATORS[operator]
    make(**tensors)
    # Activations may be narrower than weights and states, as in mamba_ssm.
    make(**(tensors | {first: tensors[first].to(dtype)}))


SIZES: list[tuple[str, str, tuple[int, ...], str]] = [
    ("scan", "delta", (2, 6, 4), "delta (2, 6, 4); (2, 5, 4) with u (2, 5, 4)"),
    ("scan", "A", (6, 3), "A (6, 3); (4, 3)"),
    ("scan", "A", (4, 6), "B (2, 5, 3); (2, 5, 6)"),  # A states d_state
    ("scan", "B", (2, 5, 6), "B (2, 5, 6); (2, 5, 3)"),
    ("scan", "C", (1, 5, 3), "C (1, 5, 3); (2, 5, 3)"),
    ("scan", "D", (6,), "D (6,); (4,)"),
    ("scan", "z", (2, 5, 1), "z (2, 5, 1); (2, 5, 4)"),
    ("scan", "delta_bias", (), "delta_bias (); (4,)"),
    ("scan", "state", (2, 3, 4), "state (2, 3, 4); (2, 4, 3)"),
    ("conv", "weight", (6, 4), "weight (6, 4); (4, 4) with x (2, 5, 4)"),
    ("conv", "weight", (4, 3), "state (2, 4, 3); (2, 4, 2)"),  # the weight states d_conv
    ("conv", "bias", (1,), "bias (1,); (4,)"),
    ("conv", "state", (2, 4, 4), "state (2, 4, 4); (2, 4, 3)"),
]


@pytest.mark.parametrize(("operator", "name", "size", "said"), SIZES)
def test_another_size_is_refused(
    operator: str, name: str, size: tuple[int, ...], said: str
) -> None:
    assert said in refusal(operator, **{name: torch.zeros(size)})


@pytest.mark.parametrize(
    ("operator", "name"), [("scan", "u"), ("scan", "A"), ("conv", "x"), ("conv", "weight")]
)
def test_another_number_of_dimensions_is_refused(operator: str, name: str) -> None:
    wrong = OPERATORS[operator][1][name][None]
    text = refusal(operator, **{name: wrong})
    assert f"{name} {tuple(wrong.shape)}" in text and f"{name} is (" in text


@pytest.mark.parametrize(("operator", "name"), FLOATING)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_a_type_that_is_not_floating_is_refused(
    operator: str, name: str, dtype: torch.dtype
) -> None:
    text = refusal(operator, **{name: OPERATORS[operator][1][name].to(dtype)})
    assert f"{name} of {dtype}" in text and "floating" in text


@pytest.mark.parametrize(("operator", "name"), OTHERS)
def test_a_tensor_on_another_device_is_refused(operator: str, name: str) -> None:
    text = refusal(operator, **{name: OPERATORS[operator][1][name].to("meta")})
    assert f"{name} on meta" in text and "cpu" in text


@pytest.mark.parametrize("operator", sorted(OPERATORS))
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lengths(5, 6), ("length 6 of row 1", "0 to 5")),
        (lengths(-1, 5), ("length -1 of row 0", "0 to 5")),
        (lengths(5, 5, 5), ("(3,)", "(2,) of int64")),
        (lengths(5, 5)[:, None], ("(2, 1)", "(2,) of int64")),
        (lengths(5, 5).int(), ("torch.int32", "(2,) of int64")),
    ],
    ids=str,
)
def test_lengths_that_do_not_fit_the_rows_are_refused(
    operator: str, wrong: Tensor, said: tuple[str, str]
) -> None:
    text = refusal(operator, lengths=wrong)
    assert not [value for value in said if value not in text], text


def test_the_public_operators_refuse_too() -> None:
    row = torch.zeros(BATCH, D_INNER, LENGTH)
    B = torch.zeros(BATCH, D_STATE + 1, LENGTH)
    with pytest.raises(UsageError, match=r"B \(2, 5, 4\); \(2, 5, 3\)"):
        selective_scan(row, row, torch.zeros(D_INNER, D_STATE), B, B)
    with pytest.raises(UsageError, match=r"bias \(5,\); \(4,\)"):
        x = row.transpose(1, 2)
        causal_conv1d(x, torch.zeros(D_INNER, D_CONV), torch.zeros(D_INNER + 1))


@pytest.fixture(scope="module")
def module() -> SpanModule:
    torch.manual_seed(0)
    return SpanModule(SHAPE, Span(1, 3))


def test_a_span_refuses_the_state_of_another_span(module: SpanModule) -> None:
    hidden = torch.zeros(1, 2, SHAPE.d_model)
    module(hidden, RecurrentState.zeros(SHAPE, Span(1, 3)))
    with pytest.raises(UsageError, match=r"blocks 0:2 .*blocks 1:3"):
        module(hidden, RecurrentState.zeros(SHAPE, Span(0, 2)))
    with pytest.raises(UsageError, match=r"3 sessions.* 1 sessions"):
        module(hidden, RecurrentState.zeros(SHAPE, Span(1, 3), batch=3))


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("may_step", [True, False])
@pytest.mark.parametrize(
    ("other", "said"),
    [
        (MambaShape(d_model=8, num_blocks=4, d_state=5), r"\(2, 1, 16, 5\); .*\(2, 1, 16, 16\)"),
        (MambaShape(d_model=8, num_blocks=4, d_conv=3), r"\(2, 1, 16, 2\).*\(2, 1, 16, 3\)"),
        (MambaShape(d_model=4, num_blocks=4), r"\(2, 1, 8, 3\).*\(2, 1, 16, 3\)"),
    ],
)
def test_a_span_refuses_the_state_of_another_model(
    module: SpanModule, other: MambaShape, said: str, length: int, may_step: bool
) -> None:
    hidden = torch.zeros(1, length, SHAPE.d_model)
    with torch.set_grad_enabled(not may_step), pytest.raises(UsageError, match=said):
        module(hidden, RecurrentState.zeros(other, Span(1, 3)))


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("num_blocks", [1, 3])
def test_a_span_refuses_tensors_of_more_or_fewer_blocks(
    module: SpanModule, num_blocks: int, length: int
) -> None:
    long = RecurrentState.zeros(SHAPE, Span(0, 3))
    state = replace(long, conv=long.conv[:num_blocks], ssm=long.ssm[:num_blocks], span=Span(1, 3))
    with torch.inference_mode(), pytest.raises(UsageError, match=rf"\({num_blocks}, 1, 16, 3\)"):
        module(torch.zeros(1, length, SHAPE.d_model), state)


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        (torch.zeros(1, 2, 7), r"residual stream \(1, 2, 7\).*d_model = 8"),
        (torch.zeros(1, 8), r"residual stream \(1, 8\)"),
        (torch.zeros(1, 1, 1, 8), r"residual stream \(1, 1, 1, 8\)"),
        (torch.zeros(1, 2, 8, dtype=torch.float64), r"torch.float64; torch.float32"),
        (torch.zeros(1, 2, 8, dtype=torch.float16), r"torch.float16; torch.float32"),
        (torch.zeros(1, 2, 8, dtype=torch.int64), r"torch.int64; torch.float32"),
    ],
    ids=str,
)
def test_a_span_refuses_another_stream(
    module: SpanModule, hidden: Tensor, said: str, with_state: bool
) -> None:
    state = RecurrentState.zeros(SHAPE, Span(1, 3)) if with_state else None
    with pytest.raises(UsageError, match=said):
        module(hidden, state)


def test_a_span_runs_narrower_streams_where_torch_casts(module: SpanModule) -> None:
    hidden = torch.randn(1, 2, SHAPE.d_model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow, _ = module(hidden.bfloat16())
    torch.testing.assert_close(narrow.float(), module(hidden)[0].float(), atol=0.1, rtol=0.1)


def test_lengths_that_are_no_tensor_are_refused(module: SpanModule) -> None:
    wrong: Any = [2]
    state = RecurrentState.zeros(SHAPE, Span(1, 3))
    with pytest.raises(UsageError, match="lengths of list"):
        module(torch.zeros(1, 2, SHAPE.d_model), state, wrong)


def test_states_of_two_models_make_no_batch() -> None:
    other = MambaShape(d_model=4, num_blocks=4)
    states = [RecurrentState.zeros(shape, Span(1, 3)) for shape in (SHAPE, other)]
    with pytest.raises(UsageError, match="a batch is of one model"):
        RecurrentState.gather(states)


def test_prompts_and_ids_that_are_none_are_refused_by_the_whole_model() -> None:
    model = WholeModel(SHAPE)
    for wrong in (-1, SHAPE.vocab_size, 10**12):
        with pytest.raises(UsageError, match=f"token id {wrong}; 0 to 383"):
            model.logits(torch.tensor([[3, wrong]]))
        with pytest.raises(UsageError, match=f"token id {wrong}"):
            model.step(torch.tensor([wrong]), model.zero_state())
    with pytest.raises(UsageError, match="without tokens"):
        model.generate_greedy([], max_new_tokens=1)
    with pytest.raises(UsageError, match=r"of torch\.float32"):
        model.logits(torch.zeros(1, 2))


def test_bytes_of_another_revision_span_or_model_are_refused_with_both_values() -> None:
    data = RecurrentState.zeros(SHAPE, Span(1, 3)).to_bytes(revision=REVISION)
    with pytest.raises(PackageError) as caught:
        RecurrentState.from_bytes(data, shape=SHAPE, span=Span(1, 3), revision=OTHER_REVISION)
    assert REVISION in str(caught.value) and OTHER_REVISION in str(caught.value)
    with pytest.raises(PackageError, match=r"'1:3'.*'0:2'"):
        RecurrentState.from_bytes(data, shape=SHAPE, span=Span(0, 2), revision=REVISION)
    other = MambaShape(d_model=8, num_blocks=4, d_state=5)
    with pytest.raises(PackageError, match=r"ssm .*\(2, 1, 16, 16\).*\(2, 1, 16, 5\)"):
        RecurrentState.from_bytes(data, shape=other, span=Span(1, 3), revision=REVISION)
