"""The ends here, the blocks out there: a model whose blocks live on the swarm's peers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence

import torch

from seshu_swarm import checkpoints
from seshu_swarm.client.routing import Offer
from seshu_swarm.client.session import RemoteSession
from seshu_swarm.dht import Found
from seshu_swarm.joining import Joined
from seshu_swarm.mamba.ends import Ends
from seshu_swarm.records import SpanRecord
from seshu_swarm.references import Reference
from seshu_swarm.spans import Span
from seshu_swarm.uids import span_keys


class RemoteModel:
    """Embedding, norm and head of one revision, and a way to its blocks."""

    def __init__(self, joined: Joined, ends: Ends, revision: str) -> None:
        self._joined, self._ends, self.revision = joined, ends, revision

    @classmethod
    async def connect(cls, joined: Joined, revision: str | None = None) -> RemoteModel:
        """Fetch the ends of the revision (the run's newest one by default)."""
        revision = revision or joined.run.revision
        folder = joined.package_folder(revision)
        names = checkpoints.files_for_ends()
        await joined.store.fetch(Reference.of_swarm(revision), folder, names)
        ends = await asyncio.to_thread(checkpoints.load_ends, folder)
        return cls(joined, ends.eval().requires_grad_(False), revision)

    async def offers(self) -> list[Offer]:
        """Peers that serve this revision now."""
        run = self._joined.run
        found = await self._joined.swarm.lookup(span_keys(run.run_id, run.num_blocks), SpanRecord)
        return [_offer(f) for f in found if self._is_usable(f.record)]

    def _is_usable(self, record: SpanRecord) -> bool:
        return self.revision in record.revisions and not record.is_draining and not record.paused

    def session(self, step_seconds: float) -> RemoteSession:
        return RemoteSession(
            self._joined.swarm,
            revision=self.revision,
            num_blocks=self._joined.run.num_blocks,
            find=self.offers,
            step_seconds=step_seconds,
        )

    async def generate(
        self,
        session: RemoteSession,
        ids: Sequence[int],
        *,
        choose: Callable[[torch.Tensor], int],
        max_new_tokens: int,
        stop_ids: Collection[int] = (),
    ) -> AsyncIterator[int]:
        """Tokens that follow `ids`, one by one; a stop id ends them and is not returned."""
        next_ids = list(ids)
        for _ in range(max_new_tokens):
            with torch.inference_mode():
                hidden_BLM = self._ends.embed(torch.tensor([next_ids]))
            hidden_BLM = await session.step(hidden_BLM)
            with torch.inference_mode():
                logits_V = self._ends.logits(hidden_BLM[:, -1:])[0, 0]
            token = choose(logits_V)
            if token in stop_ids:
                return
            yield token
            next_ids = [token]


def _offer(found: Found[SpanRecord]) -> Offer:
    record = found.record
    span = Span(record.start, record.end)
    return Offer(found.owner, span, record.step_seconds, record.num_sessions)
