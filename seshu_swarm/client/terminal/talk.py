"""A conversation in one session: each turn steps only what is new, however long the talk is.

What was chosen last and is not yet in the peers' state is **pending**: it goes in front of the next
question. Knows no terminal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from seshu_swarm.client.chain.session import RemoteSession
from seshu_swarm.client.config import ChatConfig
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.client.remote.sampling import Sampler
from seshu_swarm.client.remote.token_session import Roll, TokenSession
from seshu_swarm.client.remote.turns import question_ids
from seshu_swarm.data.tokeniser import ByteTokeniser, StreamDecoder
from seshu_swarm.errors import DeadlineError, PeerError, PeerLostError

# An interrupted answer waits so long for the step under way: broken off, it costs the session.
INTERRUPT_SECONDS = 0.5


class Talk:
    """Questions and answers; `interrupt` ends the present answer after its next byte, or gives it up
    where that does not come."""

    def __init__(self, model: RemoteModel, settings: ChatConfig) -> None:
        self._model, self._settings = model, settings
        self._choose = Sampler(settings.temperature, settings.seed)
        self._tokeniser = ByteTokeniser()
        self.rolls: list[Roll] = []  # all changes of revision, oldest first
        self._earlier_recoveries: list[str] = []
        self._session = self._new_session()
        self._pending: list[int] = []
        # Every id so far, to begin again from when all peers of a block are lost; None: unknown,
        # because the state came from a file.
        self._history: list[int] | None = []
        self._interrupted = asyncio.Event()
        self.num_tokens = 0  # of the last answer

    @property
    def recoveries(self) -> list[str]:
        """Peers that were replaced so far, oldest first."""
        return [*self._earlier_recoveries, *self._session.recoveries]

    @property
    def position(self) -> int:
        """Tokens that the peers' states have absorbed."""
        return self._session.position

    def interrupt(self) -> None:
        self._interrupted.set()

    async def answer(self, question: str) -> AsyncIterator[str]:
        """Text of the answer, as its characters are complete. Raises PeerError and DataError.

        After a PeerError the talk stands where it stood before the question, in a new session.
        DeadlineError: the answer was interrupted while it waited for peers.
        """
        self._interrupted.clear()
        ids, tokens, decoder = self._ids_of(question), list[int](), StreamDecoder()
        is_cut = False
        try:
            async for token in self._until_interrupted(self._generated(ids)):
                tokens.append(token)
                if text := decoder.push([token]):
                    yield text
                is_cut = self._interrupted.is_set() or len(tokens) == self._settings.max_new_tokens
                if is_cut:
                    break
        except PeerError:
            await self._begin_again()
            raise
        self._note(ids, tokens, is_cut)
        if rest := decoder.finish():
            yield rest

    def _ids_of(self, question: str) -> list[int]:
        is_first = not self._pending and not self._session.position
        system = self._settings.system if is_first else ""
        ids = [*self._pending, *question_ids(self._tokeniser, question, system)]
        return ids or [self._tokeniser.eos_id]

    def _generated(self, ids: list[int]) -> AsyncIterator[int]:
        settings = self._settings
        return self._session.generate(
            ids,
            choose=self._choose,
            max_new_tokens=settings.max_new_tokens,
            stop_ids=set() if settings.ignore_end else {self._tokeniser.eos_id},
        )

    async def _until_interrupted(self, generated: AsyncIterator[int]) -> AsyncIterator[int]:
        """The same tokens. Raises DeadlineError when an interruption finds the next one far away."""
        interruption = asyncio.create_task(self._interrupted.wait())
        step: asyncio.Future[int | None] | None = None
        try:
            while True:
                step = asyncio.ensure_future(anext(generated, None))
                await asyncio.wait({step, interruption}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    await asyncio.wait({step}, timeout=INTERRUPT_SECONDS)
                if not step.done():
                    raise DeadlineError("given up", rule="no token came", way_out="ask again")
                if (token := step.result()) is None:
                    return
                yield token
        finally:
            interruption.cancel()
            if step is not None and not step.done():
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)

    def _note(self, ids: list[int], tokens: list[int], is_cut: bool) -> None:
        """Where the answer ended: only the model's own end follows tokens that are all absorbed."""
        eos_id, self.num_tokens = self._tokeniser.eos_id, len(tokens)
        new_ids = [*ids[len(self._pending) :], *tokens, eos_id]
        self._pending = [*tokens[-1:], eos_id] if is_cut else [eos_id]
        if self._history is not None:
            self._history += new_ids

    async def reset(self) -> None:
        """Forget everything: a new session."""
        await self._go_on_in(self._new_session())
        self._pending, self._history = [], []

    async def save(self, path: Path) -> None:
        """Write the peers' states into a file. Raises UsageError before the first question."""
        if self._pending:
            await self._session.step(self._pending)
            self._pending = []
        await self._session.save(path)

    async def load(self, path: Path) -> None:
        """Go on from a file, with what the peers read there. Raises UsageError, PackageError, and
        RevisionRetiredError when its revision has ended."""
        resumed = await self._model.load_session(path, self._settings.step_seconds)
        await self._go_on_in(self._new_session(resumed))
        self._pending, self._history = [], None

    async def close(self) -> None:
        await self._session.close()

    async def _begin_again(self) -> None:
        """A new session, which will read the talk so far with the next question. Raises PeerLostError
        where nobody knows it."""
        is_known = self._history is not None
        await self._go_on_in(self._new_session())
        self._pending = list(self._history or ())
        self._history = list(self._pending)
        if not is_known:
            raise PeerLostError(
                "the talk that was loaded is lost with its peers", way_out="/load it again"
            )

    async def _go_on_in(self, session: TokenSession) -> None:
        self._earlier_recoveries += self._session.recoveries
        await self._session.close()
        self._session = session

    def _new_session(self, resumed: RemoteSession | None = None) -> TokenSession:
        return TokenSession(
            self._model, self._settings.step_seconds, resumed=resumed, on_roll=self._rolled
        )

    def _rolled(self, roll: Roll) -> None:
        self.rolls.append(roll)
        self._model = self._session.model
