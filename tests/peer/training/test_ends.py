"""Ends and blocks in pieces against autograd through the whole model; each id's ends once a round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from seshu_swarm.errors import TrainingError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.peer.training.casting import Casting
from seshu_swarm.peer.training.ends import EndsPasses, EndsStep
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import FIRST, Call, MicrobatchId, Open, Seal, StageFeed
from seshu_swarm.training.loop import IGNORED, batch_nats
from tests.peer.training.plans import plan_of

torch.set_num_threads(1)

ROWS, LENGTH = 2, 9
A, B = (MicrobatchId("trainer", number) for number in (0, 1))


def whole_of(*, ties: bool) -> WholeModel:
    torch.manual_seed(11)
    shape = MambaShape(d_model=32, num_blocks=2, tie_embeddings=ties)
    return WholeModel(shape)


def ids_of(seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(3, 250, (ROWS, LENGTH)))


def labels_of(ids_BL: Tensor) -> Tensor:
    labels_BL = ids_BL.clone()
    labels_BL[0, :4] = IGNORED
    return labels_BL


@pytest.mark.parametrize("ties", [True, False], ids=["tied", "untied"])
def test_in_pieces_the_gradients_are_those_of_the_whole_model(ties: bool) -> None:
    model = whole_of(ties=ties)
    ids_BL = ids_of(0)
    labels_BL = labels_of(ids_BL)
    nats = batch_nats(model, (ids_BL.numpy(), labels_BL.numpy()))
    (nats / (ROWS * (LENGTH - 1))).backward()
    expected = {
        name: p.grad.clone() for name, p in model.checkpoint_tensors().items() if p.grad is not None
    }

    part = TrainedPart(model.ends, plan_of(batch_size=ROWS, length=LENGTH, num_blocks=2))
    passes = EndsPasses(part, batch_size=ROWS, length=LENGTH)
    before = passes.embed(ids_BL).requires_grad_()
    after, _ = model.span(before)
    head = passes.head(after.detach(), labels_BL)
    [gradient] = torch.autograd.grad(after, before, head.gradient)
    embed = passes.embed_backward(ids_BL, gradient)

    assert head.nats == pytest.approx(float(nats.detach()), rel=1e-6)
    assert head.tokens == int((labels_BL[:, 1:] != IGNORED).sum())
    names = sorted(model.ends.checkpoint_tensors())
    assert len(names) == (2 if ties else 3)
    for name, one, other in zip(names, head.by_parameters, embed, strict=True):
        torch.testing.assert_close(one + other, expected[name], rtol=1e-5, atol=1e-7)


def test_a_head_in_bfloat16_has_a_loss_and_gradients_in_float32() -> None:
    model = whole_of(ties=True)
    part = TrainedPart(model.ends, plan_of(batch_size=ROWS, length=LENGTH, num_blocks=2))
    hidden, heads = torch.randn(ROWS, LENGTH - 1, 32), []
    for compute_type in ("float32", "bfloat16"):
        casting = Casting(compute_type)
        passes = EndsPasses(part, batch_size=ROWS, length=LENGTH, casting=casting)
        heads.append(passes.head(hidden, labels_of(ids_of(0))))
    full, half = heads
    assert 0 < abs(half.nats / full.nats - 1) < 1e-3
    for one, other in zip(
        (half.gradient, *half.by_parameters), (full.gradient, *full.by_parameters), strict=True
    ):
        assert one.dtype is torch.float32
        assert float((one - other).norm()) <= 2e-2 * float(other.norm())


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    model = whole_of(ties=True)
    part = TrainedPart(model.ends, plan_of(batch_size=ROWS, length=LENGTH, num_blocks=2))
    passes = EndsPasses(part, batch_size=ROWS, length=LENGTH)
    hidden = torch.full((ROWS, LENGTH - 1, 32), torch.nan)
    with pytest.raises(TrainingError, match="nan nats"):
        passes.head(hidden, ids_of(0))


class Books:
    """A real ledger of the ends, and the sum that its owner makes."""

    def __init__(self) -> None:
        self.ledger = StageLedger("trainer")
        self.sums = torch.zeros(2)

    def count(self, call: Call, gradients: Sequence[Tensor]) -> None:
        if self.ledger.count(call):
            self.sums += gradients[0]

    def open(self, round_: int, *, keeps: bool = False) -> None:
        self.ledger.obey(Open(FIRST, round_, frozenset({A, B}), keeps))
        if not keeps:
            self.sums.zero_()


def told(round_: int, *missing: MicrobatchId) -> StageFeed:
    return StageFeed(FIRST, round_, frozenset(missing))


def halves(step: EndsStep) -> None:
    """A: 1 + 2 of the first, 0 of the second number; B: 0 and 10 + 20."""
    step.add_head(A, [torch.tensor([1.0, 0.0])])
    step.add_head(B, [torch.tensor([0.0, 10.0])])
    step.add_embedding(A, [torch.tensor([2.0, 0.0])])
    step.add_embedding(B, [torch.tensor([0.0, 20.0])])


def test_an_id_is_counted_when_both_halves_are_there_and_only_once() -> None:
    books = Books()
    books.open(1)
    step = EndsStep(told(1, A, B), books.count)
    step.add_head(A, [torch.tensor([1.0, 0.0])])
    step.count_all([A, B])
    assert step.fed([A, B]) == -1
    assert books.sums.tolist() == [0.0, 0.0]
    step.add_embedding(A, [torch.tensor([2.0, 0.0])])
    for _ in range(3):
        step.add_head(A, [torch.tensor([99.0, 0.0])])
        step.add_embedding(A, [torch.tensor([99.0, 0.0])])
        step.count_all([A, B])
    assert books.sums.tolist() == [3.0, 0.0]
    assert [step.is_whole(id_) for id_ in (A, B)] == [True, False]
    assert (step.fed([A]), step.fed([A, B])) == (1, -1)


def test_what_was_cleared_is_counted_again_and_what_was_kept_is_not() -> None:
    books = Books()
    books.open(1)
    step = EndsStep(told(1, A, B), books.count)
    halves(step)
    step.count_all([A, B])
    assert books.sums.tolist() == [3.0, 30.0]
    books.open(2)
    step.follow(told(2, A, B))
    assert step.fed([A, B]) == -1
    step.count_all([A, B])
    assert books.sums.tolist() == [3.0, 30.0]
    books.ledger.obey(Seal(FIRST, 2))
    books.open(3, keeps=True)
    step.follow(told(3))
    step.follow(told(2, A, B))  # older words
    step.count_all([A, B])
    assert books.sums.tolist() == [3.0, 30.0]
    assert step.fed([A, B]) == 3


def test_what_comes_before_the_order_is_counted_after_it() -> None:
    books = Books()
    step = EndsStep(told(1, A, B), books.count)
    halves(step)
    step.count_all([A, B])
    assert step.fed([A, B]) == -1
    books.open(1)
    step.count_all([A, B])
    assert step.fed([A, B]) == 1
    assert books.sums.tolist() == [3.0, 30.0]
