"""The stream PASSES: a trainer's microbatches through this replica's stage, one stream for one pass.

What arrives is checked before anything is computed: the plan, the stage, that the trainer's name is
the caller's own, the weights, the shapes. A backward pass goes into the books when its gradients are
there, and is answered after that; one that comes again is answered and not counted. A trainer that
closes its stream stops its pass at the next block, and what was not counted then is not counted.

Shapes: B rows, K tokens (`length` of the plan - 1: the last one of a sequence predicts nothing),
M d_model.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor

from seshu_swarm.errors import ProtocolError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.peer import memory
from seshu_swarm.peer.gradients import ASK_SECONDS, FLOAT_BYTES, GIVE_SECONDS, unless_gone
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.training.casting import Casting
from seshu_swarm.peer.training.passes import Gradients, Kept, Output, StagePasses
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import Call
from seshu_swarm.pipeline.protocol.fields import peer_of
from seshu_swarm.pipeline.protocol.passes import (
    AskStagePass,
    PassRequest,
    StagePassed,
    WithdrawPass,
)
from seshu_swarm.pipeline.tensors import Packed, bytes_of, pack, unpack
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Refusal

# In hand at once: computed is one after another.
MAX_PASSES_OF_ONE = 16
MAX_PASSES = 64


class Books(Protocol):
    """Of a member: its ledger, and the count of a call with its gradients, both or neither."""

    @property
    def group(self) -> int: ...
    @property
    def ledger(self) -> StageLedger: ...
    def count(self, call: Call, gradients: Sequence[Tensor]) -> None: ...


class StageService:
    """`module` is the stage of `books`; `parameters` in the order in which `books` counts gradients."""

    def __init__(
        self,
        books: Books,
        record: TrainingRecord,
        *,
        module: SpanModule,
        parameters: Sequence[Tensor],
        guest: Guest,
        computing: Executor,
    ) -> None:
        self._books, self._record, self._guest = books, record, guest
        self._shape = record.batch_size, record.length - 1, module.shape.d_model
        self._pass_bytes = bytes_of_pass(module.shape, module.span, record)
        self.passes = StagePasses(
            module,
            parameters,
            check=lambda version: books.ledger.check_version(version),
            guest=guest,
            computing=computing,
            casting=Casting(record.compute_type),
        )
        self._in_hand: Counter[str] = Counter()
        self.num_forward = self.num_counted = 0
        self.is_draining = False

    async def serve(self, channel: Channel) -> None:
        asked = await channel.receive(PassRequest, seconds=ASK_SECONDS, what="a pass")
        request = asked.request
        self._check(channel, request)
        if isinstance(request, WithdrawPass):
            self._books.ledger.withdraw(request.withdrawal)
            return
        with self._admitted(channel.peer_id):
            await channel.send(await self._pass(channel, request))

    async def _pass(self, channel: Channel, asked: AskStagePass) -> StagePassed:
        try:
            if asked.gradient is None:
                return await self._forward(channel, asked)
            return await self._backward(channel, asked)
        except RuntimeError:
            # The computing thread ends before the last passes do: no fault of this peer's.
            if self.is_draining:
                raise refusal(Refusal.DRAINING, "my owner stopped me") from None
            raise

    def _check(self, channel: Channel, request: AskStagePass | WithdrawPass) -> None:
        if request.plan != self._record.plan:
            raise refusal(Refusal.NOT_TRAINING, f"the plan here is {self._record.plan}")
        if request.stage != self._books.group:
            raise refusal(Refusal.SPAN_MOVED, f"a replica of stage {self._books.group}")
        if peer_of(request.trainer) != channel.peer_id:
            raise refusal(Refusal.NOT_OWNER, "a trainer feeds microbatches of its own name")

    @contextmanager
    def _admitted(self, client: str) -> Iterator[None]:
        """A place, kept until the pass ends."""
        if self.is_draining:
            raise refusal(Refusal.DRAINING, "my owner stopped me")
        if reason := self._guest.pause_reason():
            raise refusal(Refusal.PAUSED, reason)
        in_hand = self._in_hand.total()
        if self._in_hand[client] >= MAX_PASSES_OF_ONE or in_hand >= MAX_PASSES:
            rule = f"{MAX_PASSES_OF_ONE} passes of one trainer, {MAX_PASSES} of all"
            raise refusal(Refusal.RATE_LIMITED, rule)
        if not self._has_room((in_hand + 1) * self._pass_bytes):
            raise refusal(Refusal.MEMORY_FULL, f"a pass needs {self._pass_bytes} bytes")
        self._in_hand[client] += 1
        try:
            yield
        finally:
            self._in_hand[client] -= 1
            self._in_hand += Counter()  # forgets who has none

    def _has_room(self, num_bytes: int) -> bool:
        if num_bytes > self._guest.free_bytes() and self.passes.kept_bytes:
            # Passes that are kept must not keep out those that would end them.
            self.passes.let_go()
            memory.give_back()
        return num_bytes <= self._guest.free_bytes()

    async def _forward(self, channel: Channel, asked: AskStagePass) -> StagePassed:
        call = asked.call
        self._books.ledger.check_version(call.version)
        hidden_BKM = await self._unpack(asked.hidden)
        self._check_upload()
        work = self.passes.forward(call.id, call.version, hidden_BKM)
        done = await unless_gone(channel, work)
        self.num_forward += 1
        return _passed(await self._pack(done.values), done)

    async def _backward(self, channel: Channel, asked: AskStagePass) -> StagePassed:
        call = asked.call
        self._books.ledger.admits(call)  # refuses what would not be counted
        gradient_BKM = await self._unpack(asked.gradient)
        self._check_upload()
        source = await self._source(channel, asked)
        work = self.passes.backward(call.version, gradient_BKM, source)
        done = await unless_gone(channel, work)
        # Packed before it is counted: what cannot be answered must not be in the books.
        values = await self._pack(done.by_input)
        if self._books.ledger.admits(call):
            self._books.count(call, done.by_parameters)
            self.num_counted += 1
        return _passed(values, done)

    async def _source(self, channel: Channel, asked: AskStagePass) -> Kept | Tensor:
        """What the forward pass left here, or its input, which the trainer is asked for."""
        call = asked.call
        kept = self.passes.take(call.id, call.version)
        if asked.hidden is None and kept is not None:
            return kept
        if asked.hidden is None:
            await channel.send(StagePassed(is_wanting=True))
            again = await channel.receive(AskStagePass, seconds=GIVE_SECONDS, what="the input")
            if again.hidden is None or again.model_copy(update={"hidden": None}) != asked:
                raise ProtocolError("another pass", rule="the same message again, with its input")
            asked = again
        return await self._unpack(asked.hidden)

    def _check_upload(self) -> None:
        batch_size, length, d_model = self._shape
        num_bytes = bytes_of(batch_size * length * d_model, self._record.wire_type)
        if not self._guest.allow_upload(num_bytes):
            raise refusal(Refusal.UPLOAD_LIMIT, str(self._guest.limits))

    async def _unpack(self, packed: Packed | None) -> Tensor:
        """(B, K, M). Raises ProtocolError."""
        return await asyncio.to_thread(unpack, packed, self._shape, self._record.wire_type)

    async def _pack(self, values_BKM: Tensor) -> Packed:
        return await asyncio.to_thread(pack, values_BKM, self._record.wire_type)


def _passed(values: Packed, done: Output | Gradients) -> StagePassed:
    return StagePassed(values=values, compute_seconds=done.seconds, wait_seconds=done.wait_seconds)


def bytes_of_pass(shape: MambaShape, span: Span, record: TrainingRecord) -> int:
    """Most memory of a pass beside what is kept of it: see `peer.gradients.bytes_of_pass`."""
    num_tokens = record.batch_size * (record.length - 1)
    return FLOAT_BYTES * num_tokens * ((span.length + 6) * shape.d_model + 16 * shape.d_inner)
