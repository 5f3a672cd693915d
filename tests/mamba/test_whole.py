"""Spans in a chain equal the whole model; a continued state equals one pass."""

from __future__ import annotations

import pytest
import torch

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.mixer import MambaMixer
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.spans import Span

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=32, num_blocks=4)


@pytest.fixture(scope="module")
def model() -> WholeModel:
    torch.manual_seed(0)
    return WholeModel(SHAPE)


@pytest.fixture(scope="module")
def chain(model: WholeModel) -> list[SpanModule]:
    """The same blocks as three spans."""
    tensors = model.checkpoint_tensors()
    spans = [SpanModule(SHAPE, span) for span in (Span(0, 1), Span(1, 3), Span(3, 4))]
    with torch.no_grad():
        for span in spans:
            for name, parameter in span.checkpoint_tensors().items():
                parameter.copy_(tensors[name])
    return spans


def some_ids(batch: int, length: int) -> torch.Tensor:
    torch.manual_seed(length)
    return torch.randint(0, SHAPE.vocab_size, (batch, length))


@torch.inference_mode()
def test_chain_of_spans_equals_the_whole_bit_for_bit(
    model: WholeModel, chain: list[SpanModule]
) -> None:
    ids = some_ids(2, 70)
    hidden = model.ends.embed(ids)
    for span in chain:
        hidden, none = span(hidden)
        assert none is None
    assert torch.equal(model.ends.logits(hidden), model.logits(ids))


@torch.inference_mode()
def test_chain_with_states_equals_the_whole_bit_for_bit(
    model: WholeModel, chain: list[SpanModule]
) -> None:
    ids = some_ids(1, 24)
    whole_state = model.zero_state()
    states = [RecurrentState.zeros(SHAPE, span.span) for span in chain]
    for start, end in [(0, 9), (9, 10), (10, 11), (11, 24)]:
        expected, whole_state = model.prefill(ids[:, start:end], whole_state)
        hidden = model.ends.embed(ids[:, start:end])
        for index, span in enumerate(chain):
            hidden, states[index] = span(hidden, states[index])
        assert torch.equal(model.ends.logits(hidden[:, -1:])[:, 0], expected)
    assert [state.position for state in states] == [24, 24, 24]
    assert torch.equal(torch.cat([state.ssm for state in states]), whole_state.ssm)
    assert torch.equal(torch.cat([state.conv for state in states]), whole_state.conv)


@torch.inference_mode()
@pytest.mark.parametrize("pieces", [[50], [1] * 50, [13, 1, 36], [2, 3, 45]])
def test_continued_state_equals_one_pass(model: WholeModel, pieces: list[int]) -> None:
    ids = some_ids(3, 50)
    expected = model.logits(ids)
    state, start = model.zero_state(batch=3), 0
    for length in pieces:
        kept = state.clone()
        logits, after = model.prefill(ids[:, start : start + length], state)
        assert torch.equal(state.ssm, kept.ssm)
        assert torch.equal(state.conv, kept.conv)
        state, start = after, start + length
        assert torch.allclose(logits, expected[:, start - 1], atol=1e-5)
    assert state.positions == (50, 50, 50)


@torch.inference_mode()
def test_batch_of_sessions_at_different_positions_equals_each_alone(model: WholeModel) -> None:
    ids = [some_ids(1, length) for length in (5, 12, 30)]
    states = [model.prefill(x, model.zero_state())[1] for x in ids]
    tokens = torch.tensor([7, 8, 9])
    batch_logits, batch = model.step(tokens, RecurrentState.gather(states))
    assert batch.positions == (6, 13, 31)
    for row, state in enumerate(states):
        logits, alone = model.step(tokens[row : row + 1], state)
        assert torch.allclose(batch_logits[row], logits[0], atol=1e-5)
        assert torch.allclose(batch.ssm[:, row], alone.ssm[:, 0], atol=1e-5)


@torch.inference_mode()
def test_greedy_equals_repeated_full_passes(model: WholeModel) -> None:
    prompt = [5, 200, 17, 99]
    generated = model.generate_greedy(prompt, max_new_tokens=12)
    tokens = list(prompt)
    for _ in range(12):
        tokens.append(int(model.logits(torch.tensor([tokens]))[0, -1].argmax()))
    assert generated == tokens[4:]
    stop = generated[3]
    stopped = model.generate_greedy(prompt, max_new_tokens=12, stop_ids={stop})
    assert stopped == generated[: generated.index(stop)]


def test_gradient_through_a_chain_equals_the_whole(
    model: WholeModel, chain: list[SpanModule]
) -> None:
    """What pipelined training relies on: backward through one span after another."""
    ids = some_ids(2, 20)
    hidden = model.ends.embed(ids).detach()
    inputs, outputs = [], []
    for span in chain:
        inputs.append(hidden.detach().requires_grad_())
        hidden, _ = span(inputs[-1])
        outputs.append(hidden)
    gradient = torch.randn_like(hidden)
    whole_input = inputs[0].detach().requires_grad_()
    torch.autograd.backward(model.span(whole_input)[0], gradient)
    passed = gradient
    for into, out in zip(reversed(inputs), reversed(outputs), strict=True):
        torch.autograd.backward(out, passed)
        assert into.grad is not None
        passed = into.grad
    assert whole_input.grad is not None
    assert torch.equal(passed, whole_input.grad)
    for span in chain:
        for name, parameter in span.checkpoint_tensors().items():
            expected = model.span.checkpoint_tensors()[name].grad
            assert expected is not None and parameter.grad is not None
            assert torch.equal(parameter.grad, expected), name


@torch.inference_mode()
def test_parts_of_a_span_share_its_weights(model: WholeModel) -> None:
    head, tail = model.span.part(Span(0, 3)), model.span.part(Span(3, 4))
    hidden = torch.randn(1, 9, SHAPE.d_model)
    assert torch.equal(tail(head(hidden)[0])[0], model.span(hidden)[0])
    names = model.span.checkpoint_tensors()
    for name, parameter in (head.checkpoint_tensors() | tail.checkpoint_tensors()).items():
        assert parameter is names[name]
    with pytest.raises(UsageError):
        tail.part(Span(2, 4))


def test_wrong_spans_and_states_are_refused(model: WholeModel, chain: list[SpanModule]) -> None:
    with pytest.raises(UsageError, match="4 blocks"):
        SpanModule(SHAPE, Span(3, 5))
    hidden = model.ends.embed(some_ids(2, 3))
    with pytest.raises(UsageError):
        chain[0](hidden, RecurrentState.zeros(SHAPE, Span(1, 2), 2))
    with pytest.raises(UsageError):
        chain[0](hidden, RecurrentState.zeros(SHAPE, Span(0, 1), 1))


def test_initialisation_follows_the_paper() -> None:
    """S4D-real A; softplus(dt bias) in [1e-3, 1e-1]; loss of an untrained model near ln(vocab)."""
    torch.manual_seed(3)
    fresh = WholeModel(SHAPE)
    first = fresh.span.get_submodule("blocks.0.mixer")
    assert isinstance(first, MambaMixer)
    assert torch.allclose(first.A_log.exp()[5], torch.arange(1.0, 17.0))
    dt = torch.nn.functional.softplus(first.dt_proj.bias.detach())
    assert 0.9e-3 < float(dt.min()) < float(dt.max()) < 1.1e-1
    # Uniform in +-1/sqrt(d_inner), divided by the root of the depth: residuals add up to order one.
    bound = (SHAPE.d_inner * SHAPE.num_blocks) ** -0.5
    assert 0.9 * bound < float(first.out_proj.weight.detach().abs().max()) <= bound
    ids = some_ids(2, 64)
    loss = torch.nn.functional.cross_entropy(
        fresh.logits(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    assert abs(float(loss.detach()) - 5.95) < 0.2
