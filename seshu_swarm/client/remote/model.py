"""The ends here, the blocks out there: a model whose blocks live on the swarm's peers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from seshu_swarm import checkpoints
from seshu_swarm.client.chain.hub import Hub
from seshu_swarm.client.chain.revisions import Newest, is_usable, missing_blocks, newest_of
from seshu_swarm.client.chain.routing import HOP_SECONDS, Offer
from seshu_swarm.client.chain.session import RemoteSession
from seshu_swarm.client.chain.terms import Terms
from seshu_swarm.client.remote.readout import Readout
from seshu_swarm.errors import PackageError, RevisionRetiredError, UsageError
from seshu_swarm.mamba.ends import Ends
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.network.dht import Found
from seshu_swarm.network.round_trips import RoundTrips
from seshu_swarm.program import waits
from seshu_swarm.records.kinds import SpanRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.spans import Span
from seshu_swarm.stores.references import Reference

STEP_SECONDS = 10.0
SNAPSHOT_TOKENS = 128


@dataclass
class Succession:
    """What the models of one run's revisions share, so that each is fetched once."""

    newest: RemoteModel | None = None
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)


class RemoteModel:
    """Embedding, norm and head of one revision, and a way to its blocks.

    `is_pinned`: the revision was chosen by name, so its texts do not go on with a newer one.
    """

    def __init__(
        self,
        joined: Joined,
        ends: Ends,
        revision: str,
        hub: Hub | None = None,
        *,
        is_pinned: bool = False,
        succession: Succession | None = None,
    ) -> None:
        self._joined, self._ends, self.revision = joined, ends, revision
        self._hub, self.is_pinned = hub, is_pinned
        self._succession = succession or Succession()
        self._readout = Readout(ends)
        self._offers: tuple[float, list[Offer]] = (0.0, [])
        self._round_trips = RoundTrips(joined.swarm)

    @classmethod
    async def connect(
        cls, joined: Joined, revision: str | None = None, *, succession: Succession | None = None
    ) -> RemoteModel:
        """Fetch the ends of the revision (the run's newest one by default)."""
        wanted = revision or joined.run.revision
        folder = joined.package_folder(wanted)
        names = checkpoints.files_for_ends()
        with waits.waiting(f"the ends of revision {wanted[:12]}"):
            await joined.store.fetch(Reference.of_swarm(wanted), folder, names)
        ends = await asyncio.to_thread(checkpoints.load_ends, folder)
        return cls(
            joined,
            ends.eval().requires_grad_(False),
            wanted,
            await Hub.of(joined.swarm),
            is_pinned=revision is not None,
            succession=succession,
        )

    async def successor(self) -> RemoteModel:
        """The run's newest revision, fetched once; this one where there is none newer.

        Raises PeerError and PackageError.
        """
        shared = self._succession
        async with shared.fetching:
            found = await self._joined.swarm.current_run(self._joined.link)
            if found is None or found.record.revision == self.revision:
                return self
            if shared.newest is None or shared.newest.revision != found.record.revision:
                joined = dataclasses.replace(self._joined, found=found)
                shared.newest = await RemoteModel.connect(joined, succession=shared)
            return shared.newest

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

    async def next_logits(self, hidden_1LM: Tensor) -> Tensor:
        """Logits (vocab_size) after the last token of a step, together with other sessions' of this turn."""
        return await self._readout.next_logits(hidden_1LM)

    async def offers(self, *, most_seconds: float = 0.0) -> list[Offer]:
        """Peers that serve this revision; what was found up to so long ago will do."""
        found_at, offers = self._offers
        if time.monotonic() - found_at > most_seconds:
            run = self._joined.run
            found = await self._joined.swarm.spans(run.num_blocks)
            usable = [f for f in found if is_usable(f.record, self.revision)]
            await self._round_trips.refresh(f.owner for f in usable)
            offers = [_offer(f, self._round_trips.get(f.owner)) for f in usable]
            self._offers = (time.monotonic(), offers)
        return offers

    async def newest(self) -> Newest | None:
        """The run's newest revision, and whether it is served. Raises DeadlineError."""
        return await newest_of(self._joined)

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
            find_newest=self.newest,
            step_seconds=step_seconds,
            is_star=is_star,
            hub=self._hub,
        )

    async def load_session(
        self, path: Path, step_seconds: float = STEP_SECONDS, *, wire_type: str = "float32"
    ) -> RemoteSession:
        """Go on with a session that was saved, on whatever peers there are, without recomputation.

        Raises RevisionRetiredError for a state of a revision that has ended, PackageError for one of
        another revision or model, UsageError without the file.
        """
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        if saved := saved_revision(path):
            await self._refuse_if_ended(saved)
        whole = Span(0, self.shape.num_blocks)
        state = RecurrentState.from_bytes(
            data, shape=self.shape, span=whole, revision=self.revision
        )
        return RemoteSession(
            self._joined.swarm,
            Terms(self.revision, self.shape, SNAPSHOT_TOKENS, wire_type),
            find=self.offers,
            find_newest=self.newest,
            step_seconds=step_seconds,
            resumed=state,
            hub=self._hub,
        )

    async def _refuse_if_ended(self, revision: str) -> None:
        newest = await self.newest()
        if newest is None or newest.revision == revision:
            return
        if await missing_blocks(self._joined, revision):
            raise RevisionRetiredError(revision, newest.revision)
        if revision != self.revision:
            raise PackageError(
                f"a session of revision {revision[:12]}",
                rule=f"this model is of revision {self.revision[:12]}",
                way_out=f"connect to the model with revision={revision!r}, which is still served",
            )


def saved_revision(path: Path) -> str:
    """Of which revision a saved session says it is; empty when it says nothing readable."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["state"])
            return str(facts["revision"])[:64]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _offer(found: Found[SpanRecord], round_trip_seconds: float | None) -> Offer:
    record = found.record
    span = Span(record.start, record.end)
    trip = HOP_SECONDS if round_trip_seconds is None else round_trip_seconds
    return Offer(found.owner, span, record.step_seconds, record.num_sessions, trip)
