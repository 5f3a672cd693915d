"""A conversation in tokens, which outlives its revision.

A state fits the revision that made it and no other. When nobody serves that one any more, the tokens so
far are read again by the run's newest revision, and the conversation goes on there: here, and nowhere
else. What was answered stays; what follows comes from the new weights, and it is said (`Roll`).

Shapes: L new tokens, M d_model; the batch is 1.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seshu_swarm.client.chain.recovery import Recovery
from seshu_swarm.client.chain.routing import Hop
from seshu_swarm.client.chain.session import RemoteSession
from seshu_swarm.client.remote.model import STEP_SECONDS, RemoteModel
from seshu_swarm.errors import PeerError, RevisionRetiredError
from seshu_swarm.mamba.checks import check_ids
from seshu_swarm.program import waits

logger = logging.getLogger(__name__)

# How long peers may take to fetch and load the newest revision, while nobody serves the old one.
ROLL_SECONDS = 60.0
AGAIN_SECONDS = 0.3
READ_TOKENS = 1_024  # a step of reading again: outputs of more are not held at once


@dataclass(frozen=True)
class Roll:
    """One change of revision: which ended, which goes on, how many tokens were read again."""

    ended: str
    revision: str
    num_tokens: int

    def __str__(self) -> str:
        return (
            f"revision {self.ended[:12]} has ended, revision {self.revision[:12]} goes on "
            f"after reading {self.num_tokens} token(s) again"
        )


def log_roll(roll: Roll) -> None:
    logger.warning("%s", roll)


class TokenSession:
    """`step(ids)` advances it; `model` is the one whose ends fit what `step` returned last.

    `resumed`: a session whose tokens nobody here knows; it ends with its revision, as does one of a
    model that is pinned.
    """

    def __init__(
        self,
        model: RemoteModel,
        step_seconds: float = STEP_SECONDS,
        *,
        resumed: RemoteSession | None = None,
        on_roll: Callable[[Roll], None] = log_roll,
    ) -> None:
        self.model, self._step_seconds, self._on_roll = model, step_seconds, on_roll
        self._session = resumed or model.session(step_seconds)
        self._ids: list[int] | None = None if resumed else []
        self._earlier: list[Recovery] = []  # of revisions that ended
        self.rolls: list[Roll] = []

    @property
    def revision(self) -> str:
        return self.model.revision

    @property
    def peers(self) -> list[str]:
        """Peer ids of the present chain, in order."""
        return self._session.peers

    @property
    def position(self) -> int:
        """Tokens that every block has absorbed."""
        return self._session.position

    @property
    def recoveries(self) -> list[str]:
        """What was lost and replaced so far, a line each."""
        return [str(one) for one in self.replaced]

    @property
    def replaced(self) -> list[Recovery]:
        """What was lost so far, by whom it was replaced, and how long that took."""
        return [*self._earlier, *self._session.replaced]

    @property
    def chain(self) -> tuple[Hop, ...]:
        """Who has which blocks now, in order; empty before the first step."""
        return self._session.chain

    async def step(self, ids: Sequence[int], hidden_1LM: Tensor | None = None) -> Tensor:
        """The residual stream (1, L, M) after the last block, for these ids.

        `hidden_1LM`: what the caller's own ends made of them, where `model` has not changed yet. Raises
        PeerError, and RevisionRetiredError where the tokens so far are unknown.
        """
        sent_1LM = self._embed(self.model, ids) if hidden_1LM is None else hidden_1LM
        try:
            output_1LM = await self._session.step(sent_1LM)
        except RevisionRetiredError:
            if self._ids is None or self.model.is_pinned:
                raise
            output_1LM = await self._roll(self._ids, ids)
        if self._ids is not None:
            self._ids.extend(ids)
        return output_1LM

    async def step_hidden(self, hidden_1LM: Tensor) -> Tensor:
        """A step over no tokens but embeddings: from now on nobody could read the text again.

        Raises RevisionRetiredError after a roll: the caller's embeddings are of the revision that ended.
        """
        if self.rolls:
            raise RevisionRetiredError(self.rolls[0].ended, self.revision)
        self._ids = None
        return await self.step((), hidden_1LM)

    async def generate(
        self,
        ids: Sequence[int],
        *,
        choose: Callable[[Tensor], int],
        max_new_tokens: int,
        stop_ids: Collection[int] = (),
    ) -> AsyncIterator[int]:
        """Tokens that follow `ids`, one by one; a stop id ends them and is not returned."""
        next_ids = list(ids)
        for _ in range(max_new_tokens):
            hidden_1LM = await self.step(next_ids)
            token = choose(await self.model.next_logits(hidden_1LM))
            if token in stop_ids:
                return
            yield token
            next_ids = [token]

    async def save(self, path: Path) -> None:
        """As `RemoteSession.save`."""
        await self._session.save(path)

    async def close(self) -> None:
        await self._session.close()

    async def _roll(self, absorbed: Sequence[int], ids: Sequence[int]) -> Tensor:
        """The outputs for `ids` by the newest revision, as soon as peers serve it."""
        deadline = time.monotonic() + ROLL_SECONDS
        while True:
            try:
                with waits.waiting("peers that serve the run's newest revision", ROLL_SECONDS):
                    model = await self.model.successor()
                    session, output_1LM = await self._read(model, absorbed, ids)
                break
            except PeerError as error:
                if time.monotonic() > deadline:
                    raise
                logger.info("going on with another revision: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)
        ended, roll = self._session, Roll(self.revision, model.revision, len(absorbed))
        self._earlier += ended.replaced
        self.model, self._session = model, session
        self.rolls.append(roll)
        self._on_roll(roll)
        await ended.close()
        return output_1LM

    async def _read(
        self, model: RemoteModel, absorbed: Sequence[int], ids: Sequence[int]
    ) -> tuple[RemoteSession, Tensor]:
        session = model.session(self._step_seconds)
        try:
            for start in range(0, len(absorbed), READ_TOKENS):
                await session.step(self._embed(model, absorbed[start : start + READ_TOKENS]))
            return session, await session.step(self._embed(model, ids))
        except BaseException:
            await session.close()
            raise

    @staticmethod
    def _embed(model: RemoteModel, ids: Sequence[int]) -> Tensor:
        ids_1L = torch.tensor([list(ids)], dtype=torch.int64)
        check_ids(ids_1L, model.shape.vocab_size)
        return model.embed(ids_1L)
