"""A stage's forward and backward passes, and what is kept in between for the second of them.

One pass is computed at a time, block by block in the compute thread, so that sessions' steps come in
between. A forward pass leaves each block's autograd graph while there is room, else only its input;
what nobody comes back for goes when the weights move on, or when newer passes need the place, the
oldest first. Backward takes what was kept, or an input that is sent again, and gives the same numbers
either way. Knows the ledger only as `check`, which refuses a version that is not the stage's now.

Shapes: B rows, L tokens, M d_model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from seshu_swarm.errors import ProtocolError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.served import Stopwatch
from seshu_swarm.peer.training.casting import Casting
from seshu_swarm.pipeline.messages import MicrobatchId, Version

MAX_KEPT_BYTES = 2 << 30

T = TypeVar("T")


class Link(NamedTuple):
    """One block in a pass: what went in, and what came out with the block's graph, or None."""

    block: nn.Module
    before: Tensor
    after: Tensor | None


class Kept(NamedTuple):
    """Of a forward pass: all links, if they have graphs, else the first."""

    links: list[Link]
    num_bytes: int


class Output(NamedTuple):
    """`wait_seconds`: until it had its turn; `seconds`: from then on."""

    values: Tensor
    seconds: float
    wait_seconds: float


class Gradients(NamedTuple):
    """By the input, and by each of the parameters in their order."""

    by_input: Tensor
    by_parameters: list[Tensor]
    seconds: float
    wait_seconds: float


class StagePasses:
    """`parameters`: those of `module`, in the order in which their gradients are wanted."""

    def __init__(
        self,
        module: SpanModule,
        parameters: Sequence[Tensor],
        *,
        check: Callable[[Version], None],
        guest: Guest,
        computing: Executor,
        casting: Casting | None = None,
        max_kept_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        self._blocks, self._shape = list(module.blocks), module.shape
        self._parameters = list(parameters)
        self._check, self._guest, self._computing = check, guest, computing
        self._max_kept_bytes, self._casting = max_kept_bytes, casting or Casting()
        self._version: Version | None = None
        self._kept: dict[MicrobatchId, Kept] = {}
        self._turn = asyncio.Lock()

    @property
    def kept_bytes(self) -> int:
        return sum(kept.num_bytes for kept in self._kept.values())

    def take(self, id_: MicrobatchId, version: Version) -> Kept | None:
        """What a forward pass left, once: without it, backward needs the input again."""
        self._move_on(version)
        return self._kept.pop(id_, None)

    def let_go(self) -> None:
        """Of all that is kept: who comes back for it sends its input again."""
        self._kept.clear()

    async def forward(self, id_: MicrobatchId, version: Version, hidden_BLM: Tensor) -> Output:
        """Raises RefusalError when the weights are or become others, ProtocolError for an output that
        is not finite."""
        waiting = Stopwatch()
        async with self._turn:
            waited, watch = waiting.seconds, Stopwatch()
            links, after_BLM = await self._through(hidden_BLM, version)
            await self._check_finite([after_BLM])
            self._check(version)
            self._keep(id_, version, links)
            return Output(after_BLM, watch.seconds, waited)

    async def backward(
        self, version: Version, gradient_BLM: Tensor, source: Kept | Tensor
    ) -> Gradients:
        """From the gradient by the output, and what was kept or the input. Raises as `forward` does."""
        waiting = Stopwatch()
        async with self._turn:
            waited, watch = waiting.seconds, Stopwatch()
            links = source.links if isinstance(source, Kept) else []
            if not links or links[0].after is None:
                input_BLM = links[0].before if isinstance(source, Kept) else source
                links, _ = await self._through(input_BLM, version)
            by_input_BLM, gradients = await self._back(links, gradient_BLM, version)
            return Gradients(by_input_BLM, gradients, watch.seconds, waited)

    async def _back(
        self, links: list[Link], gradient_BLM: Tensor, version: Version
    ) -> tuple[Tensor, list[Tensor]]:
        found: dict[int, Tensor] = {}
        while links:
            link = links.pop()  # its graph ends with it
            work = version, self._backward, link, gradient_BLM
            gradient_BLM, parameters = await self._compute(*work)
            found.update(zip(map(id, link.block.parameters()), parameters, strict=True))
        gradients = [found[id(parameter)] for parameter in self._parameters]
        await self._check_finite([gradient_BLM, *gradients])
        self._check(version)
        return gradient_BLM, gradients

    async def _through(self, hidden_BLM: Tensor, version: Version) -> tuple[list[Link], Tensor]:
        """All blocks forward, with graphs if there is room for them."""
        has_graph = self._has_room(bytes_of_graph(self._shape, hidden_BLM, len(self._blocks)))
        links = []
        for block in self._blocks:
            before_BLM = hidden_BLM.detach().requires_grad_(has_graph)
            work = version, self._forward, block, before_BLM, has_graph
            hidden_BLM = await self._compute(*work)
            links.append(Link(block, before_BLM, hidden_BLM if has_graph else None))
        return links, hidden_BLM.detach()

    def _forward(self, block: nn.Module, hidden_BLM: Tensor, has_graph: bool) -> Tensor:
        with torch.set_grad_enabled(has_graph), self._casting.on(hidden_BLM.device):
            output_BLM: Tensor = block(hidden_BLM)[0]
        return output_BLM

    def _backward(self, link: Link, gradient_BLM: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Gradients by the block's input and parameters; without a graph it is computed again."""
        before_BLM, after_BLM = link.before, link.after
        if after_BLM is None:
            before_BLM = before_BLM.detach().requires_grad_()
            after_BLM = self._forward(link.block, before_BLM, has_graph=True)
        parameters = tuple(link.block.parameters())
        first, *others = torch.autograd.grad(after_BLM, (before_BLM, *parameters), gradient_BLM)
        return first, tuple(others)

    async def _compute(self, version: Version, work: Callable[..., T], *arguments: object) -> T:
        # Before each block: other weights than those of the blocks before it would mix two models.
        self._check(version)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._computing, work, *arguments)

    async def _check_finite(self, values: list[Tensor]) -> None:
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._computing, _are_finite, values):
            raise ProtocolError("these numbers overflow in the blocks", rule="the result is finite")

    def _keep(self, id_: MicrobatchId, version: Version, links: list[Link]) -> None:
        self._move_on(version)
        self._kept.pop(id_, None)
        input_BLM = links[0].before
        num_bytes = bytes_of_graph(self._shape, input_BLM, len(links))
        if links[0].after is None:
            # The other links' inputs are computed again.
            links, num_bytes = links[:1], input_BLM.nbytes
        while self._kept and self.kept_bytes + num_bytes > self._max_kept_bytes:
            del self._kept[next(iter(self._kept))]
        if num_bytes <= self._max_kept_bytes:
            self._kept[id_] = Kept(links, num_bytes)

    def _has_room(self, num_bytes: int) -> bool:
        is_allowed = self.kept_bytes + num_bytes <= self._max_kept_bytes
        return is_allowed and num_bytes <= self._guest.free_bytes()

    def _move_on(self, version: Version) -> None:
        if version != self._version:
            self._version = version
            self._kept.clear()


def bytes_of_graph(shape: MambaShape, hidden_BLM: Tensor, num_blocks: int) -> int:
    """Most that the graphs of a pass hold.

    A block's graph holds at most 14.3 vectors of d_inner for each token, measured with the plain
    kernels (native: 10.2) at d_model 32; 12.7 (8.2) at 512.
    """
    num_tokens = hidden_BLM.shape[0] * hidden_BLM.shape[1]
    return num_blocks * num_tokens * 15 * shape.d_inner * hidden_BLM.element_size()


def _are_finite(values: list[Tensor]) -> bool:
    """By their extremes, of which NaN is one: isfinite of each number took 15 times as long."""
    extremes = [one for value in values for one in value.aminmax()]
    return bool(torch.isfinite(torch.stack(extremes)).all())
