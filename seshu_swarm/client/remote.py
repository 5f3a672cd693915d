"""The ends here, the blocks out there: a model whose blocks live on the swarm's peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from seshu_swarm import checkpoints
from seshu_swarm.client.carrier import Terms
from seshu_swarm.client.hub import Hub
from seshu_swarm.client.routing import HOP_SECONDS, Offer
from seshu_swarm.client.session import RemoteSession
from seshu_swarm.dht import Found
from seshu_swarm.errors import UsageError
from seshu_swarm.joining import Joined
from seshu_swarm.mamba.ends import Ends
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.records import SpanRecord
from seshu_swarm.references import Reference
from seshu_swarm.round_trips import RoundTrips
from seshu_swarm.spans import Span
from seshu_swarm.uids import span_keys

STEP_SECONDS = 10.0
SNAPSHOT_TOKENS = 128


class RemoteModel:
    """Embedding, norm and head of one revision, and a way to its blocks."""

    def __init__(self, joined: Joined, ends: Ends, revision: str, hub: Hub | None = None) -> None:
        self._joined, self._ends, self.revision = joined, ends, revision
        self._hub = hub
        self._offers: tuple[float, list[Offer]] = (0.0, [])
        self._round_trips = RoundTrips(joined.swarm)

    @classmethod
    async def connect(cls, joined: Joined, revision: str | None = None) -> RemoteModel:
        """Fetch the ends of the revision (the run's newest one by default)."""
        revision = revision or joined.run.revision
        folder = joined.package_folder(revision)
        names = checkpoints.files_for_ends()
        await joined.store.fetch(Reference.of_swarm(revision), folder, names)
        ends = await asyncio.to_thread(checkpoints.load_ends, folder)
        hub = await Hub.of(joined.swarm)
        return cls(joined, ends.eval().requires_grad_(False), revision, hub)

    @property
    def shape(self) -> MambaShape:
        return self._ends.shape

    def embed(self, ids_BL: Tensor) -> Tensor:
        """Token ids (int64) → residual stream (batch, tokens, d_model)."""
        with torch.inference_mode():
            return self._ends.embed(ids_BL)

    def logits(self, hidden_BLM: Tensor) -> Tensor:
        """Residual stream after the last block → (batch, tokens, vocab_size)."""
        with torch.inference_mode():
            return self._ends.logits(hidden_BLM)

    async def offers(self, *, most_seconds: float = 0.0) -> list[Offer]:
        """Peers that serve this revision; what was found up to so long ago will do."""
        found_at, offers = self._offers
        if time.monotonic() - found_at > most_seconds:
            run = self._joined.run
            keys = span_keys(run.run_id, run.num_blocks)
            found = await self._joined.swarm.lookup(keys, SpanRecord)
            usable = [f for f in found if self._is_usable(f.record)]
            await self._round_trips.refresh(f.owner for f in usable)
            offers = [_offer(f, self._round_trips.get(f.owner)) for f in usable]
            self._offers = (time.monotonic(), offers)
        return offers

    def _is_usable(self, record: SpanRecord) -> bool:
        return self.revision in record.revisions and not record.is_draining and not record.paused

    def session(
        self,
        step_seconds: float = STEP_SECONDS,
        *,
        wire_type: str = "float32",
        snapshot_tokens: int = SNAPSHOT_TOKENS,
        is_star: bool = False,
    ) -> RemoteSession:
        """A new conversation. `step_seconds`: how long one step may take at one peer; `wire_type`
        bfloat16 halves the bytes, at three digits of precision; in a star everything passes through this
        client, which is slower and kept for comparison."""
        terms = Terms(self.revision, self.shape, snapshot_tokens, wire_type)
        return RemoteSession(
            self._joined.swarm,
            terms,
            find=self.offers,
            step_seconds=step_seconds,
            is_star=is_star,
            hub=self._hub,
        )

    async def load_session(
        self, path: Path, step_seconds: float = STEP_SECONDS, *, wire_type: str = "float32"
    ) -> RemoteSession:
        """Go on with a session that was saved, on whatever peers there are, without recomputation.

        Raises PackageError for a state of another revision or model, UsageError without the file.
        """
        whole = Span(0, self.shape.num_blocks)
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        state = RecurrentState.from_bytes(
            data, shape=self.shape, span=whole, revision=self.revision
        )
        return RemoteSession(
            self._joined.swarm,
            Terms(self.revision, self.shape, SNAPSHOT_TOKENS, wire_type),
            find=self.offers,
            step_seconds=step_seconds,
            resumed=state,
            hub=self._hub,
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
            hidden_BLM = await session.step(self.embed(torch.tensor([next_ids])))
            token = choose(self.logits(hidden_BLM[:, -1:])[0, 0])
            if token in stop_ids:
                return
            yield token
            next_ids = [token]


def _offer(found: Found[SpanRecord], round_trip_seconds: float | None) -> Offer:
    record = found.record
    span = Span(record.start, record.end)
    trip = HOP_SECONDS if round_trip_seconds is None else round_trip_seconds
    return Offer(found.owner, span, record.step_seconds, record.num_sessions, trip)
