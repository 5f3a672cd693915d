"""The stream SESSIONS: carries the session protocol, computes the steps.

One stream is one session of one client. The rules are in `sessions`; here are the sockets, the
compute thread, the memory of states and the owner's limits.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from seshu_swarm import wire
from seshu_swarm.channel import IDLE_SECONDS, Channel, refusal
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.served import Pace, ServedSpan, Stopwatch
from seshu_swarm.peer.sessions import Session, Sessions, advance, remembered
from seshu_swarm.protocol import (
    MAX_STEP_TOKENS,
    OpenSession,
    Refusal,
    SessionOpened,
    Step,
    StepReply,
)
from seshu_swarm.spans import Span

OPEN_SECONDS = 30.0

Live = Session[RecurrentState, StepReply]


class SpanService:
    """Serves every loaded revision of the span. `load` and `retire` change what is served."""

    def __init__(self, guest: Guest, max_sessions: int) -> None:
        self._guest = guest
        self._sessions: Sessions[RecurrentState, StepReply] = Sessions(max_sessions)
        self._served: dict[str, ServedSpan] = {}
        # One thread: steps of one span run one after another; torch uses the cores inside a step.
        # MKL counts threads for each calling thread; asking torch there applies --max-threads to it.
        self._computing = ThreadPoolExecutor(
            1, thread_name_prefix="compute", initializer=torch.get_num_threads
        )
        self.pace = Pace()
        self.is_draining = False
        self.num_steps = 0

    @property
    def num_sessions(self) -> int:
        return len(self._sessions)

    @property
    def revisions(self) -> tuple[str, ...]:
        return tuple(self._served)

    def load(self, served: ServedSpan) -> None:
        self._served[served.revision] = served

    def retire(self, current: str) -> list[str]:
        """Unload revisions that are not current and have no session; their digests."""
        old = [r for r in self._served if r != current and not self._sessions.of_revision(r)]
        for revision in old:
            del self._served[revision]
        return old

    async def serve(self, channel: Channel) -> None:
        asked = await channel.receive(OpenSession, seconds=OPEN_SECONDS, what="a session")
        session = self._enter(channel.peer_id, asked)
        await channel.send(SessionOpened(position=session.position))
        while step := await channel.receive_or_end(Step, seconds=IDLE_SECONDS, what="a step"):
            if not self._sessions.is_current(channel.peer_id, asked.session_id, session):
                raise refusal(Refusal.EPOCH_FENCED, "a newer epoch took the session over")
            await channel.send(await self._step(session, step))
        self._sessions.close(channel.peer_id, asked.session_id, session)

    def _enter(self, client: str, asked: OpenSession) -> Live:
        self._refuse_if_paused()
        if session := self._sessions.find(client, asked):
            return session
        if self.is_draining:
            raise refusal(Refusal.DRAINING, "")
        served = self._served.get(asked.revision)
        if served is None:
            raise refusal(Refusal.REVISION_MISMATCH, f"serving {', '.join(self._served)[:80]}")
        if not served.span.start <= asked.start < asked.end <= served.span.end:
            raise refusal(Refusal.SPAN_MOVED, f"hosting {served.span}")
        state = served.fresh_state(Span(asked.start, asked.end))
        if state.num_bytes > self._guest.free_bytes():
            raise refusal(Refusal.MEMORY_FULL, f"a session needs {state.num_bytes} bytes")
        return self._sessions.open(client, asked, state, time.monotonic())

    def _refuse_if_paused(self) -> None:
        if reason := self._guest.pause_reason():
            raise refusal(Refusal.PAUSED, reason)

    async def _step(self, session: Live, step: Step) -> StepReply:
        self._refuse_if_paused()
        if (again := remembered(session, step.position)) is not None:
            return again
        served = self._served[session.revision]
        hidden = wire.unpack_tensor(step.hidden, (1, None, served.module.shape.d_model))
        num_tokens = hidden.shape[1]
        if num_tokens > MAX_STEP_TOKENS:
            raise refusal(Refusal.TOO_LARGE, f"{num_tokens} tokens, at most {MAX_STEP_TOKENS}")
        if not self._guest.allow_upload(hidden.nbytes):
            raise refusal(Refusal.UPLOAD_LIMIT, str(self._guest.limits))
        session.is_stepping = True
        try:
            watch, loop = Stopwatch(), asyncio.get_running_loop()
            computing = loop.run_in_executor(self._computing, served.compute, session.state, hidden)
            output, state = await computing
        finally:
            session.is_stepping = False
        if num_tokens == 1:
            self.pace.add(watch.seconds)
        self.num_steps += 1
        reply = StepReply(
            position=session.position + num_tokens,
            hidden=wire.pack_tensor(output),
            compute_seconds=watch.seconds,
        )
        advance(session, state, reply, num_tokens, time.monotonic())
        return reply
