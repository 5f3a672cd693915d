"""What a trainer computes itself: embedding before the first stage, norm and head after the last one.

The ends are a group of the plan like any stage, and their replicas are the trainers: each counts its
own microbatches, each once, when both of its gradients are there. A tied head and the embedding are
one tensor, so they are added before they are counted. What was counted is kept, as numbers, until
the step is over everywhere: a round that is opened again counts it again. Knows no sockets.

Shapes: B rows, L tokens of a sequence, K = L - 1 positions that predict one, M d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from seshu_swarm.errors import DataError, RefusalError, TrainingError
from seshu_swarm.mamba.ends import Ends
from seshu_swarm.peer.training.casting import Casting
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.messages import Call, MicrobatchId, StageFeed
from seshu_swarm.training.loop import IGNORED

Gradients = Sequence[Tensor]
Count = Callable[[Call, Gradients], None]


class HeadPass(NamedTuple):
    """`nats` of `tokens` learned tokens; the gradients are of nats / (B * K): by what came out of the
    last stage (B, K, M), and by the ends' parameters in their order."""

    nats: float
    tokens: int
    gradient: Tensor
    by_parameters: list[Tensor]


class EndsPasses:
    """Both ends of microbatches of `batch_size` sequences of `length` tokens. For one thread."""

    def __init__(
        self,
        part: TrainedPart,
        *,
        batch_size: int,
        length: int,
        casting: Casting | None = None,
    ) -> None:
        self._part, self._ends = part, cast(Ends, part.module)
        self._casting = casting or Casting()
        self._shape = batch_size, length
        self._divisor = batch_size * (length - 1)

    @torch.no_grad()
    def embed(self, ids_BL: Tensor) -> Tensor:
        """The input of stage 0, (B, K, M). Raises DataError for a microbatch of another shape."""
        if ids_BL.shape != self._shape:
            raise DataError(
                f"a microbatch of {list(ids_BL.shape)} tokens",
                rule=f"the plan's are {list(self._shape)}",
            )
        return self._ends.embed(ids_BL[:, :-1])

    def head(self, hidden_BKM: Tensor, labels_BL: Tensor) -> HeadPass:
        """Raises TrainingError for a loss or a gradient that is not finite."""
        hidden_BKM = hidden_BKM.detach().requires_grad_()
        labels_BK = labels_BL[:, 1:]
        with self._casting.on(hidden_BKM.device):
            logits_BKV = self._ends.logits(hidden_BKM).float()
        nats = functional.cross_entropy(
            logits_BKV.flatten(0, 1), labels_BK.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        first, *others = self._gradients(nats / self._divisor, [hidden_BKM])
        if not bool(torch.isfinite(nats) & torch.isfinite(first).all()):
            raise TrainingError(
                f"the loss of a microbatch is {float(nats.detach()):.3g} nats, or its gradient is not",
                rule="training goes on with finite numbers only",
                way_out="ask the maintainer for a smaller learning rate; check the data",
            )
        tokens = int((labels_BK != IGNORED).sum())
        return HeadPass(float(nats.detach()), tokens, first, others)

    def embed_backward(self, ids_BL: Tensor, gradient_BKM: Tensor) -> list[Tensor]:
        """By the ends' parameters, from the gradient by the input of stage 0."""
        return self._gradients(self._ends.embed(ids_BL[:, :-1]), [], gradient_BKM)

    def _gradients(
        self, output: Tensor, inputs: list[Tensor], gradient: Tensor | None = None
    ) -> list[Tensor]:
        """By the inputs, then by the parameters: 0 where the output does not depend on one."""
        return list(
            torch.autograd.grad(
                output,
                [*inputs, *self._part.parameters],
                gradient,
                allow_unused=True,
                materialize_grads=True,
            )
        )


class EndsStep:
    """The ends' books of one step at one trainer. `count` is the member's: it raises RefusalError."""

    def __init__(self, told: StageFeed, count: Count) -> None:
        self._told, self._count = told, count
        self._heads: dict[MicrobatchId, Gradients] = {}
        self._whole: dict[MicrobatchId, Gradients] = {}
        self._counted: dict[MicrobatchId, int] = {}

    def add_head(self, id_: MicrobatchId, gradients: Gradients) -> None:
        """By the norm and the head."""
        if id_ not in self._whole:
            self._heads[id_] = gradients

    def add_embedding(self, id_: MicrobatchId, gradients: Gradients) -> None:
        """By the embedding; the head's are there by then. Again, it changes nothing."""
        head = self._heads.pop(id_, None)
        if head is not None:
            self._whole[id_] = [a + b for a, b in zip(head, gradients, strict=True)]

    def is_whole(self, id_: MicrobatchId) -> bool:
        return id_ in self._whole

    def follow(self, told: StageFeed) -> None:
        if told.round > self._told.round:
            self._told = told

    def count_all(self, ids: Iterable[MicrobatchId]) -> None:
        """Those that the group lacks and that are here. What is refused is counted at the next call:
        the order that opens the round may come after the word of it."""
        told = self._told
        for id_ in ids:
            if self._lacks(id_) and id_ in self._whole:
                try:
                    self._count(Call(id_, told.version, told.round, 0), self._whole[id_])
                except RefusalError:
                    continue
                self._counted[id_] = told.round

    def fed(self, ids: Iterable[MicrobatchId]) -> int:
        """The round in which all of these are counted, or -1."""
        return -1 if any(self._lacks(id_) for id_ in ids) else self._told.round

    def _lacks(self, id_: MicrobatchId) -> bool:
        told = self._told
        return id_ in told.missing and self._counted.get(id_, -1) < told.round
