"""One session of a bench, token by token: greedy, and timed.

Shapes: B batch (1), L tokens, M d_model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from seshu_swarm.client.chain.session import RemoteSession
from seshu_swarm.client.remote.model import RemoteModel


@dataclass(frozen=True)
class Token:
    """A greedy token. Moments are of time.perf_counter; `compute_seconds` is what the peers said
    they spent on its step."""

    id: int
    began: float
    arrived: float
    compute_seconds: float

    @property
    def seconds(self) -> float:
        """From handing its step to the session until the answer."""
        return self.arrived - self.began


class Talk:
    """`read` a prompt, then take token after token with `next`."""

    def __init__(self, session: RemoteSession, model: RemoteModel) -> None:
        self.session, self._model = session, model
        self.ids: list[int] = []

    @property
    def revision(self) -> str:
        """Whose weights it began with, and keeps."""
        return self._model.revision

    @property
    def peers(self) -> list[str]:
        """Peer ids of the present chain, in order."""
        return self.session.peers

    @property
    def num_failovers(self) -> int:
        return len(self.session.recoveries)

    async def read(self, ids: list[int]) -> Token:
        """Absorb a prompt; the first token after it. Raises PeerError."""
        return await self._step(ids)

    async def next(self) -> Token:
        """Raises PeerError when no chain is left."""
        return await self._step(self.ids[-1:])

    async def go_on(self, num_tokens: int) -> list[Token]:
        return [await self.next() for _ in range(num_tokens)]

    async def _step(self, ids: list[int]) -> Token:
        hidden_BLM = self._model.embed(torch.tensor([ids]))
        began = time.perf_counter()
        hidden_BLM = await self.session.step(hidden_BLM)
        arrived = time.perf_counter()
        self.ids.append(int((await self._model.next_logits(hidden_BLM)).argmax()))
        return Token(self.ids[-1], began, arrived, sum(self.session.compute_seconds))

    @property
    def snapshot_bytes(self) -> int:
        """Of states that the peers left with the client, so far."""
        return self.session.snapshot_bytes

    async def close(self) -> None:
        await self.session.close()
