"""One token through all blocks by one native call: equal to the blocks, whoever shares the batch.

Shapes: K blocks, B batch, M d_model, D d_inner, N d_state, P d_conv - 1, R rows, W width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from seshu_swarm.mamba import decoding
from seshu_swarm.mamba.kernels.choose import PLAIN, using
from seshu_swarm.mamba.kernels.native import step as native_step
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.spans import Span
from tests.mamba import implementations

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=32, num_blocks=2)
# Whole vectors; widths that are no multiple of any; the smallest; rows cut between three threads.
SHAPES = {
    "usual": SHAPE,
    "odd": MambaShape(d_model=25, num_blocks=3, d_state=20, d_conv=2, dt_rank=3),
    "smallest": MambaShape(d_model=3, num_blocks=1, d_state=1, d_conv=4, dt_rank=1, expand=1),
    "wide": MambaShape(d_model=72, num_blocks=2, d_state=16, d_conv=3, dt_rank=5),
}
EACH_SHAPE = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@pytest.fixture(params=implementations.native_names(), autouse=True)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here is of every implementation that has a step."""
    torch.manual_seed(0)
    with using(implementations.named(request.param)):
        yield request.param


@pytest.fixture
def any_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights of any size are worth another thread."""
    monkeypatch.setattr(native_step, "BYTES_OF_A_THREAD", 1)
    yield
    torch.set_num_threads(1)


def some_span(shape: MambaShape) -> SpanModule:
    """Random in everything, those parameters too that start equal for all channels."""
    span = SpanModule(shape, Span(0, shape.num_blocks))
    with torch.no_grad():
        for name, parameter in span.named_parameters():
            if name.endswith(("norm.weight", "mixer.D", "A_log", "bias")):
                parameter.add_(torch.randn_like(parameter) / 4)
    return span


def some_state(shape: MambaShape, batch: int) -> RecurrentState:
    zeros = RecurrentState.zeros(shape, Span(0, shape.num_blocks), batch)
    return replace(zeros, conv=torch.randn_like(zeros.conv), ssm=torch.randn_like(zeros.ssm))


def step(span: SpanModule, hidden_BM: Tensor, state: RecurrentState) -> tuple[Tensor, ...] | None:
    return decoding.step_blocks(span.shape, span.blocks, hidden_BM, state.conv, state.ssm)


def done(span: SpanModule, hidden_BM: Tensor, state: RecurrentState) -> tuple[Tensor, ...]:
    found = step(span, hidden_BM, state)
    assert found is not None
    return found


def blocks_in_turn(
    span: SpanModule, hidden_BM: Tensor, state: RecurrentState
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in float64 by plain torch, one block after another."""
    hidden_BLM, conv, ssm = hidden_BM.double()[:, None], [], []
    exact = copy.deepcopy(span).double()
    with using(PLAIN):
        for index, block in enumerate(exact.blocks):
            states = state.conv[index].double(), state.ssm[index].double()
            hidden_BLM, *after = block(hidden_BLM, *states)
            conv.append(after[0])
            ssm.append(after[1])
    return hidden_BLM[:, 0], torch.stack(conv), torch.stack(ssm)


def relative(found: Tensor, expected: Tensor) -> float:
    exact = expected.detach().double()
    difference = torch.linalg.norm(found.detach().double() - exact)
    return float(difference / torch.linalg.norm(exact))


@torch.inference_mode()
@EACH_SHAPE
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_step_equals_the_blocks_run_one_by_one(shape: MambaShape, batch: int) -> None:
    span, state = some_span(shape), some_state(shape, batch)
    hidden = torch.randn(batch, shape.d_model)
    given = hidden.clone(), state.clone()
    found = done(span, hidden, state)
    for ours, expected in zip(found, blocks_in_turn(span, hidden, state), strict=True):
        assert ours.shape == expected.shape
        assert relative(ours, expected) < 2e-6
    assert torch.equal(hidden, given[0])
    assert torch.equal(state.conv, given[1].conv) and torch.equal(state.ssm, given[1].ssm)


@torch.inference_mode()
def test_a_span_steps_by_it_and_counts_the_token() -> None:
    span, state, hidden = some_span(SHAPE), some_state(SHAPE, 2), torch.randn(2, 32)
    expected = done(span, hidden, state)
    found, after = span(hidden[:, None], state)
    assert torch.equal(found[:, 0], expected[0])
    assert torch.equal(after.conv, expected[1]) and torch.equal(after.ssm, expected[2])
    assert after.positions == (1, 1)


@torch.inference_mode()
@EACH_SHAPE
def test_a_row_does_not_depend_on_its_batch(shape: MambaShape) -> None:
    most = decoding.MAX_BATCH
    span, state = some_span(shape), some_state(shape, most)
    hidden = torch.randn(most, shape.d_model)
    alone = [done(span, hidden[row : row + 1], own) for row, own in enumerate(state.scatter())]
    for batch in (*range(1, 10), most):
        rows = torch.arange(most - batch, most)
        part = RecurrentState.gather([state.scatter()[row] for row in rows])
        together = done(span, hidden[rows], part)
        for index, row in enumerate(rows):
            assert torch.equal(together[0][index], alone[row][0][0])
            assert torch.equal(together[1][:, index], alone[row][1][:, 0])
            assert torch.equal(together[2][:, index], alone[row][2][:, 0])


@torch.inference_mode()
@EACH_SHAPE
def test_neither_threads_nor_repetition_change_a_bit(shape: MambaShape, any_threads: None) -> None:
    span, state = some_span(shape), some_state(shape, 5)
    hidden = torch.randn(5, shape.d_model)
    expected = done(span, hidden, state)
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        assert all(map(torch.equal, done(span, hidden, state), expected))


@torch.inference_mode()
def test_strided_states_equal_contiguous_ones() -> None:
    span, state, hidden = some_span(SHAPE), some_state(SHAPE, 6), torch.randn(32, 6).t()
    part = replace(state, conv=state.conv[:, ::2], ssm=state.ssm[:, ::2])
    contiguous = replace(state, conv=part.conv.contiguous(), ssm=part.ssm.contiguous())
    expected = done(span, hidden[::2].contiguous(), contiguous)
    assert all(map(torch.equal, done(span, hidden[::2], part), expected))


@torch.inference_mode()
def test_a_poisoned_session_keeps_its_poison() -> None:
    span, state, hidden = some_span(SHAPE), some_state(SHAPE, 3), torch.randn(3, 32)
    clean = done(span, hidden, state)
    hidden[1, 4], state.ssm[0, 2, 5, 7] = torch.nan, torch.inf
    found = done(span, hidden, state)
    assert torch.equal(found[0][0], clean[0][0])
    assert bool(found[0][1].isnan().all())
    assert not bool(found[0][2].isfinite().any())


def test_small_numbers_of_the_process_survive_a_step(any_threads: None) -> None:
    span, state = some_span(SHAPE), some_state(SHAPE, 2)
    torch.set_num_threads(2)
    with torch.no_grad():
        done(span, torch.randn(2, 32), state)
    denormal = torch.full((1 << 18,), 1e-40)  # enough that both threads take part
    assert bool(((denormal + denormal) > 0).all())


def refused_for_gradients(span: SpanModule) -> tuple[SpanModule, int, torch.dtype]:
    torch.set_grad_enabled(True)
    return span, 2, torch.float32


def refused_for_its_batch(span: SpanModule) -> tuple[SpanModule, int, torch.dtype]:
    return span, decoding.MAX_BATCH + 1, torch.float32


def refused_for_an_adapter(span: SpanModule) -> tuple[SpanModule, int, torch.dtype]:
    """Of peft, on one projection of each block, with an effect from the start."""
    config = LoraConfig(r=2, target_modules=["x_proj"], init_lora_weights=False)
    inject_adapter_in_model(config, span)
    return span, 2, torch.float32


def refused_for_double_precision(span: SpanModule) -> tuple[SpanModule, int, torch.dtype]:
    return span.double(), 2, torch.float64


def refused_for_strided_weights(span: SpanModule) -> tuple[SpanModule, int, torch.dtype]:
    weight = span.blocks[1].mixer.out_proj.weight  # type: ignore[union-attr]
    weight.data = weight.data.t().contiguous().t()  # type: ignore[operator]
    return span, 2, torch.float32


@pytest.mark.parametrize(
    "refused",
    [
        refused_for_gradients,
        refused_for_its_batch,
        refused_for_an_adapter,
        refused_for_double_precision,
        refused_for_strided_weights,
    ],
)
@torch.no_grad()
def test_where_it_cannot_the_blocks_run(refused: object) -> None:
    assert callable(refused)
    span, batch, dtype = refused(some_span(SHAPE))
    state, hidden = some_state(SHAPE, batch), torch.randn(batch, 32, dtype=dtype)
    state = replace(state, conv=state.conv.to(dtype), ssm=state.ssm.to(dtype))
    assert step(span, hidden, state) is None
    found, after = span(hidden[:, None], state)
    expected = blocks_in_turn(span, hidden, state)
    for ours, right in zip((found[:, 0], after.conv, after.ssm), expected, strict=True):
        assert relative(ours, right) < 2e-6


@torch.inference_mode()
def test_plain_torch_has_no_step() -> None:
    with using(PLAIN):
        assert step(some_span(SHAPE), torch.randn(2, 32), some_state(SHAPE, 2)) is None
        assert decoding.project(torch.randn(2, 32), torch.randn(9, 32)) is None


@torch.inference_mode()
@pytest.mark.parametrize("size", [(383, 25), (64, 32), (1, 1), (130, 100)])
def test_head_product_equals_the_matrix_product(size: tuple[int, int], any_threads: None) -> None:
    weight, x = torch.randn(size), torch.randn(decoding.MAX_BATCH, size[1])
    alone = []
    for row in x:
        product = decoding.project(row[None], weight)
        assert product is not None
        alone.append(product)
    assert relative(torch.cat(alone), x.double() @ weight.double().t()) < 1e-6
    for batch, threads in ((1, 2), (2, 1), (3, 3), (5, 2), (decoding.MAX_BATCH, 3)):
        torch.set_num_threads(threads)
        together = decoding.project(x[:batch], weight)
        assert together is not None
        assert torch.equal(together, torch.cat(alone[:batch]))


@torch.inference_mode()
def test_head_product_of_strided_matrices() -> None:
    x, weight = torch.randn(32, 3).t(), torch.randn(40, 90)[::2, 1:65:2]
    found = decoding.project(x, weight)
    assert found is not None
    assert relative(found, x.double() @ weight.double().t()) < 1e-6


def test_head_product_is_refused_where_it_cannot() -> None:
    x, weight = torch.randn(2, 32), torch.randn(9, 32)
    assert decoding.project(x, weight) is None  # gradients are on
    with torch.no_grad():
        assert decoding.project(x.double(), weight.double()) is None
        assert decoding.project(x, weight.bfloat16()) is None
        assert decoding.project(torch.randn(decoding.MAX_BATCH + 1, 32), weight) is None


@pytest.mark.parametrize("is_tied", [True, False])
@torch.inference_mode()
def test_logits_of_one_token_equal_those_of_many(is_tied: bool) -> None:
    ends = WholeModel(replace(SHAPE, tie_embeddings=is_tied)).ends
    hidden = torch.randn(3, 5, 32)
    expected = ends.logits(hidden)  # a matrix product by torch: there are several tokens
    for t in range(5):
        assert relative(ends.logits(hidden[:, t : t + 1])[:, 0], expected[:, t]) < 1e-6


@torch.inference_mode()
@pytest.mark.parametrize("shape", [SHAPE, SHAPES["odd"]], ids=["usual", "odd"])
def test_long_greedy_generation_is_that_of_plain_torch(shape: MambaShape) -> None:
    """Each step's logits near float64's, and nearer than the two likeliest tokens are to each other."""
    # With a head of its own: an untrained model with a tied one says its input again and again.
    model = WholeModel(replace(shape, tie_embeddings=False))
    prompt, num_tokens = [7, 200, 31], 300
    generated = model.generate_greedy(prompt, max_new_tokens=num_tokens)
    assert len(set(generated)) > 20
    ids = torch.tensor([prompt + generated[:-1]])
    with using(PLAIN):
        assert model.generate_greedy(prompt, max_new_tokens=num_tokens) == generated
        exact = copy.deepcopy(model).double().logits(ids)[0, len(prompt) - 1 :]
    logits, state = model.prefill(ids[:, : len(prompt)], model.zero_state())
    found = [logits[0]]
    for token in generated[:-1]:
        logits, state = model.step(torch.tensor([token]), state)
        found.append(logits[0])
    error = float((torch.stack(found).double() - exact).abs().max())
    best, second = exact.topk(2).values.unbind(-1)
    assert error < 1e-5 * float(exact.abs().max())
    assert float((best - second).min()) > 2 * error, "a tie: take another seed"
    assert exact.argmax(-1).tolist() == generated
