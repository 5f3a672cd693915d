"""One step of a part equals one of torch; a state taken over goes on bit for bit, or is refused by name."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from seshu_swarm.errors import ProtocolError
from seshu_swarm.mamba.ends import Ends
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.messages import FIRST, Version
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.spans import Span
from seshu_swarm.training.loop import make_optimiser
from seshu_swarm.training.schedule import Schedule

SHAPE = MambaShape(d_model=16, num_blocks=2)
RECORD = TrainingRecord(
    run_id="test-run",
    plan="ab" * 8,
    base="cd" * 32,
    boundaries=(0, 2),
    batch_size=2,
    length=8,
    num_microbatches=3,
    num_steps=10,
    learning_rate=3e-3,
    warmup_fraction=0.2,
    final_fraction=0.1,
    weight_decay=0.1,
    clip=0.5,
    wire_type="float32",
    state="open",
)


@pytest.fixture
def module() -> SpanModule:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    return SpanModule(SHAPE, Span(0, 2))


def gradients_of(part: TrainedPart, seed: int) -> list[Tensor]:
    """Of one microbatch of noise; some seeds are clipped at 0.5, and some are not."""
    hidden_BLM = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(seed))
    output_BLM, _ = part.module(hidden_BLM)
    loss = output_BLM.square().sum() / (20 + 500 * (seed % 2))
    return list(torch.autograd.grad(loss, part.parameters))


def one_step(part: TrainedPart, version: Version, seeds: tuple[int, ...]) -> None:
    for seed in seeds:
        part.accumulate(gradients_of(part, seed))
    part.apply(part.summed() / len(seeds), version)


def test_steps_equal_those_of_torch(module: SpanModule) -> None:
    reference = copy.deepcopy(module)
    part = TrainedPart(module, RECORD)
    schedule = Schedule(learning_rate=3e-3, warmup_fraction=0.2, clip=0.5)
    optimiser = make_optimiser(reference, schedule)
    batches = [(1, 3, 5, 7), (2, 4), (6,)]  # powers of two: dividing by them rounds nothing
    norms = []
    for step, seeds in enumerate(batches):
        one_step(part, Version(step, 4 * step), seeds)
        for seed in seeds:
            hidden_BLM = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(seed))
            loss = reference(hidden_BLM)[0].square().sum() / (20 + 500 * (seed % 2))
            (loss / len(seeds)).backward()
        norms.append(float(nn.utils.clip_grad_norm_(reference.parameters(), 0.5)))
        for group in optimiser.param_groups:
            group["lr"] = schedule.learning_rate_at((step + 1) / 10)
        optimiser.step()
        optimiser.zero_grad()
    assert min(norms) < 0.5 < max(norms)
    expected = reference.checkpoint_tensors()
    for name, tensor in part.module.checkpoint_tensors().items():  # type: ignore[operator]
        torch.testing.assert_close(tensor, expected[name], rtol=1e-7, atol=1e-7)


def test_sums_are_flat_in_the_order_of_global_names(module: SpanModule) -> None:
    part = TrainedPart(module, RECORD)
    assert torch.equal(part.summed(), torch.zeros(part.num_bytes // 4))
    one, two = gradients_of(part, 1), gradients_of(part, 2)
    part.accumulate(one)
    part.accumulate(two)
    tensors = module.checkpoint_tensors()
    place = {id(p): index for index, p in enumerate(part.parameters)}
    expected = [one[place[id(tensors[n])]] + two[place[id(tensors[n])]] for n in sorted(tensors)]
    assert torch.equal(part.summed(), torch.cat([gradient.flatten() for gradient in expected]))
    part.clear()
    assert not part.summed().any()


def test_a_state_taken_over_goes_on_bit_for_bit(module: SpanModule) -> None:
    part = TrainedPart(module, RECORD)
    one_step(part, FIRST, (1, 2))
    state = part.state()
    other = TrainedPart(SpanModule(SHAPE, Span(0, 2)), RECORD)
    other.accumulate(gradients_of(other, 9))
    other.load_state(state)
    assert other.digest() == part.digest() and not other.summed().any()
    one_step(part, Version(1, 1), (4, 6))
    assert other.digest() != part.digest()  # copies: the step did not reach what was given
    one_step(other, Version(1, 1), (4, 6))
    assert other.digest() == part.digest()
    assert all(torch.equal(other.state()[n], tensor) for n, tensor in part.state().items())


def test_the_state_before_the_first_step_can_be_given(module: SpanModule) -> None:
    part, other = TrainedPart(module, RECORD), TrainedPart(SpanModule(SHAPE, Span(0, 2)), RECORD)
    other.load_state(part.state())
    one_step(part, FIRST, (1,))
    one_step(other, FIRST, (1,))
    assert other.digest() == part.digest()


def test_the_ends_are_a_part_too() -> None:
    torch.manual_seed(5)
    part = TrainedPart(Ends(SHAPE), RECORD)
    part.accumulate([torch.ones_like(p) for p in part.parameters])
    before = part.digest()
    part.apply(part.summed(), FIRST)
    assert part.digest() != before


def test_a_gradient_of_infinite_norm_leaves_finite_weights(module: SpanModule) -> None:
    part = TrainedPart(module, RECORD)
    part.apply(torch.full((part.num_bytes // 4,), 3e38), FIRST)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in part.state().values())


NAME = "backbone.layers.0.mixer.D"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({NAME: None}, f"lacks '{NAME}'"),
        ({f"exp_avg/{NAME}": None}, f"lacks 'exp_avg/{NAME}'"),
        ({"step": None}, "lacks 'step'"),
        ({"extra": torch.zeros(1)}, "has beside others 'extra'"),
        ({NAME: torch.zeros(3)}, f"{NAME}: torch.float32 of shape [3]"),
        ({NAME: torch.zeros(32, dtype=torch.float64)}, f"{NAME}: torch.float64"),
        ({NAME: torch.full((32,), torch.nan)}, f"{NAME} holds NaN"),
        ({f"exp_avg_sq/{NAME}": torch.full((32,), -1.0)}, f"exp_avg_sq/{NAME} holds NaN"),
        ({"step": torch.tensor(-1)}, "step holds"),
        ({"step": torch.tensor(1.0)}, "step: torch.float32"),
    ],
)
def test_a_hostile_state_is_refused_by_name_and_changes_nothing(
    module: SpanModule, change: dict[str, Tensor | None], message: str
) -> None:
    part = TrainedPart(module, RECORD)
    one_step(part, FIRST, (1,))
    before, told = part.digest(), {**part.state(), **change}
    with pytest.raises(ProtocolError) as caught:
        part.load_state({name: tensor for name, tensor in told.items() if tensor is not None})
    assert message in str(caught.value)
    assert part.digest() == before
