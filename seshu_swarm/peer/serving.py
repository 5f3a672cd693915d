"""The streams of sessions: control streams of clients, push streams of other peers.

What arrives becomes a call of the part's machine (`sessions`); what the machine says goes out on the
client's control stream or to another peer. Here are the sockets, the owner's limits and the budgets
that a hostile client meets.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from seshu_swarm.errors import PeerLostError, ProtocolError, RefusalError
from seshu_swarm.exchange import edges
from seshu_swarm.exchange.payloads import BlockState, Hidden
from seshu_swarm.exchange.pushing import Pushes
from seshu_swarm.exchange.session_messages import (
    BETWEEN_PARTS,
    FROM_CLIENT,
    AskSnapshot,
    Notice,
    OpenPart,
    PartOpened,
    Ping,
    Pong,
    ReroutePart,
    TrimPart,
)
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.admission import OPEN_SECONDS, Admission
from seshu_swarm.peer.engine import Engine
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.hosted import MAX_KEPT_TOKENS, Hosted, HostedParts
from seshu_swarm.peer.served import ServedSpan
from seshu_swarm.program import running
from seshu_swarm.sessions.messages import CLIENT, At, Attach, Piece, Reroute, Snapshot, To
from seshu_swarm.streams import wire
from seshu_swarm.streams.channel import IDLE_SECONDS, Channel, refusal
from seshu_swarm.streams.outbox import Outbox
from seshu_swarm.streams.protocol import Message, Refusal

logger = logging.getLogger(__name__)


class SpanService:
    """Serves every loaded revision of the span. `load` and `retire` change what is served."""

    def __init__(self, swarm: Swarm, guest: Guest, max_sessions: int) -> None:
        self._guest = guest
        self._served: dict[str, ServedSpan] = {}
        self._parts = HostedParts(guest, max_sessions)
        self._pushes = Pushes(swarm, lost=self._next_lost, again=self._next_again)
        self.engine = Engine(self._deliver)
        self._admission = Admission(guest, self._parts, self._served)

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new sessions."""
        return self._admission.is_draining

    @is_draining.setter
    def is_draining(self, is_draining: bool) -> None:
        self._admission.is_draining = is_draining

    @property
    def num_sessions(self) -> int:
        self._parts.expire(time.monotonic())
        return len(self._parts)

    @property
    def num_attended(self) -> int:
        """Sessions whose client is there, to go on elsewhere when it is told."""
        return sum(hosted.outbox is not None for hosted in self._parts.all())

    @property
    def revisions(self) -> tuple[str, ...]:
        return tuple(self._served)

    def served(self, revision: str) -> ServedSpan | None:
        return self._served.get(revision)

    def load(self, served: ServedSpan) -> None:
        self._served[served.revision] = served

    def retire(self, current: str) -> list[str]:
        """Unload revisions that are not current and have no session; their digests."""
        self._parts.expire(time.monotonic())
        old = [r for r in self._served if r != current and not self._parts.of_revision(r)]
        for revision in old:
            del self._served[revision]
        return old

    def unload_all(self) -> None:
        """End what is left of every session, and serve nothing until the next `load`."""
        for hosted in self._parts.all():
            hosted.fail(refusal(Refusal.REVISION_MISMATCH, "no room for two revisions"))
            self._close(hosted)  # also where no stream stands that would
        self._served.clear()

    def notify(self, name: str, *, revision: str | None = None) -> int:
        """Tell the clients of all parts, or of those of a revision; how many there are."""
        told = [
            h for h in self._parts.all() if h.outbox is not None and revision in (None, h.revision)
        ]
        for hosted in told:
            hosted.tell(Notice(name=name))
        return len(told)

    async def serve(self, channel: Channel) -> None:
        """One control stream: one part of one session."""
        asked = await channel.receive(OpenPart, seconds=OPEN_SECONDS, what="a session")
        hosted = await self._admission.enter(channel, asked)
        outbox = hosted.outbox = Outbox(channel)
        outbox.put(PartOpened(position=hosted.part.received))
        self._deliver(hosted, hosted.part.greet())
        try:
            listening = self._listen(channel, hosted)
            await running.first_to_end(listening, outbox.run(), hosted.failure())
        except (PeerLostError, asyncio.CancelledError):
            hosted.used_at = time.monotonic()  # its client may come back to it
            raise
        except BaseException:
            self._close(hosted)
            raise
        finally:
            if hosted.outbox is outbox:
                hosted.outbox = None
        self._close(hosted)

    async def serve_pushes(self, channel: Channel) -> None:
        """What another peer sends to the parts here."""
        what = "pieces"
        while message := await channel.receive_one_of(
            BETWEEN_PARTS, seconds=IDLE_SECONDS, what=what
        ):
            for letter in edges.letters(message):
                self._pushed(channel.peer_id, letter)

    def _pushed(self, peer: str, letter: edges.Letter) -> None:
        # Not in the loop above: while that waits, it would hold the last part, and with it the weights.
        hosted = self._parts.get(letter.to)
        if hosted is not None:  # else its session has ended
            self._edge_event(hosted, _sender(hosted, peer, letter.sender), letter.event)

    async def close(self) -> None:
        self.engine.close()
        await self._pushes.close()

    async def _listen(self, channel: Channel, hosted: Hosted) -> None:
        """Until the client ends the session."""
        while message := await channel.receive_one_of(
            FROM_CLIENT, seconds=IDLE_SECONDS, what="a step"
        ):
            self._from_client(hosted, message)

    def _from_client(self, hosted: Hosted, message: Message) -> None:
        part = hosted.part
        match message:
            case ReroutePart():
                rerouted = Reroute(message.epoch, message.before, message.next)
                self._deliver(hosted, part.reroute(rerouted))
            case TrimPart():
                part.trim(message.position)
            case Ping():
                pong = Pong(
                    position=part.position, received=part.received, is_computing=part.is_computing
                )
                hosted.tell(pong)
            case AskSnapshot():
                hosted.owes_snapshot = True
                self._deliver(hosted, [])
            case _:
                [letter] = edges.letters(message)
                self._edge_event(hosted, CLIENT, letter.event)

    def _edge_event(
        self, hosted: Hosted, sender: str, told: edges.EdgeEvent | ProtocolError
    ) -> None:
        """A piece or a greeting; whatever is wrong with it ends the session, not the stream."""
        part = hosted.part
        if isinstance(told, Piece | ProtocolError) and sender != part.before:
            return  # a stranger, or one whose place another peer has taken
        try:
            event = edges.checked(told, hosted.served.module.shape.d_model)
            match event:
                case Piece():
                    self._check_budgets(hosted, event.payload.tensor.numel())
                    answers = part.receive(sender, event)
                case Attach():
                    answers = part.attached(sender, event)
                case At():
                    answers = part.go_on(sender, event)
        except ProtocolError as error:
            hosted.fail(refusal(Refusal.MALFORMED, str(error)))
        except RefusalError as error:
            hosted.fail(error)
        else:
            self._deliver(hosted, answers)
            self.engine.wake(hosted)

    def _check_budgets(self, hosted: Hosted, num_numbers: int) -> None:
        if reason := self._guest.pause_reason():
            raise refusal(Refusal.PAUSED, reason)
        if hosted.part.num_kept > MAX_KEPT_TOKENS:
            raise refusal(Refusal.TOO_LARGE, f"{hosted.part.num_kept} tokens wait for a snapshot")
        if not self._guest.allow_upload(num_numbers * wire.DTYPES[hosted.wire_type].itemsize):
            raise refusal(Refusal.UPLOAD_LIMIT, str(self._guest.limits))

    def _deliver(self, hosted: Hosted, sending: Sequence[To[Hidden, BlockState]]) -> None:
        """Carry what a machine says to where it goes."""
        for to in sending:
            if isinstance(to.message, Snapshot):
                hosted.tell_snapshot(to.message.position)
                continue
            peer, part_id = edges.split(to.peer)
            if not isinstance(to.message, Piece | Attach | At):
                continue
            message = edges.to_message(
                to.message, to=part_id, sender=hosted.part_id, wire_type=hosted.wire_type
            )
            if to.peer != CLIENT:
                self._pushes.send(peer, message)
            elif hosted.is_pushed:
                self._pushes.send(hosted.client, message)
            else:
                hosted.tell(message)
        if hosted.owes_snapshot and not hosted.part.is_computing:
            hosted.owes_snapshot = False
            hosted.tell_snapshot(hosted.part.position)

    def _next_lost(self, peer: str) -> None:
        for hosted in self._parts.all():
            if hosted.client == peer:
                hosted.is_pushed = False
            if edges.split(hosted.part.next)[0] == peer:
                hosted.tell(Notice(name="NEXT_UNREACHABLE"))
            if edges.split(hosted.part.before)[0] == peer:
                hosted.tell(Notice(name="BEFORE_UNREACHABLE"))

    def _next_again(self, peer: str) -> None:
        for hosted in self._parts.all():
            if peer in (edges.split(hosted.part.next)[0], edges.split(hosted.part.before)[0]):
                self._deliver(hosted, hosted.part.greet())

    def _close(self, hosted: Hosted) -> None:
        self._parts.close(hosted)
        self.engine.forget(hosted)


def _sender(hosted: Hosted, peer: str, part_id: bytes) -> str:
    """Whose piece it is: its client's own, or another part's."""
    if part_id == edges.CLIENT_PART and peer == hosted.client:
        return CLIENT
    return edges.address(peer, part_id)
