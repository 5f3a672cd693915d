"""A run on loopback that publishes revisions, and real hosting peers that follow them."""

from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from seshu_swarm import checkpoints
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.client.remote.token_session import TokenSession
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.network.link import Link, parse
from seshu_swarm.peer import status
from seshu_swarm.peer.config import HostConfig
from seshu_swarm.peer.guest import Guest, Limits
from seshu_swarm.peer.host import HostingPeer
from seshu_swarm.program.config import JoinConfig
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import RunRecord
from seshu_swarm.run.joining import Joined, join
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.streams.protocol import BLOBS
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID, Loopback
from tests.samples import run_record

NEVER_SECONDS = 1_000.0
ANNOUNCEMENTS = 10
POLL_SECONDS = 0.1
ROOM_FOR_SESSIONS = 30_000  # bytes: three of them, and not the half of a block


def loud_checkpoint(folder: Path, like: TinyCheckpoint, *, seed: int) -> TinyCheckpoint:
    """Another revision: strong blocks, so that what it says depends on the whole text."""
    torch.manual_seed(seed)
    whole = WholeModel(MambaShape(d_model=like.d_model, num_blocks=like.num_blocks))
    with torch.no_grad():
        for block in whole.span.blocks:
            block.get_parameter("mixer.out_proj.weight").mul_(4)
    revision = checkpoints.save_checkpoint(
        folder,
        shape=whole.shape,
        tensors=whole.checkpoint_tensors(),
        about={"parent": None, "round": seed},
        card=f"Revision {seed} of a test.\n",
    )
    return TinyCheckpoint(folder, revision)


class OneRoom(Guest):
    """A machine with memory for the blocks of one revision: the meter of this process, which holds all
    peers of a test, could not tell."""

    host: HostingPeer | None = None

    def free_bytes(self) -> int:
        return ROOM_FOR_SESSIONS if self.host and self.host._service.revisions else 1 << 40


class Hosted:
    """A hosting peer that lives until `stop`."""

    def __init__(self, peer: HostingPeer, joined: Joined, stop: Stop) -> None:
        self.peer, self.joined, self.stop = peer, joined, stop
        self.living: asyncio.Task[None] | None = None

    @property
    def revisions(self) -> tuple[str, ...]:
        return self.peer._service.revisions

    @property
    def peer_id(self) -> str:
        return self.joined.swarm.peer_id

    @property
    def num_sessions(self) -> int:
        return self.peer._service.num_sessions


class Rolling(Loopback):
    """`publish` makes a checkpoint the run's newest; `hosted` starts peers; `model` is a client's."""

    def __init__(self, folder: Path, first: TinyCheckpoint) -> None:
        super().__init__(folder)
        self._coordinator = self.join("coordinator")
        root, policy, kept = folder / "packages", HolderPolicy(takes_adapters=False), list[str]()
        root.mkdir()
        holder = Holder(root, policy=policy, allow_upload=lambda _: True, on_stored=kept.append)
        self.run(self._coordinator.serve(BLOBS, holder.serve))
        self._client: Joined | None = None
        self._hosted: list[Hosted] = []
        self.publish(first)

    @property
    def link(self) -> str:
        fingerprint = self.identity("coordinator").fingerprint
        return str(Link(RUN_ID, fingerprint, tuple(self.addresses)))

    def publish(self, checkpoint: TinyCheckpoint) -> None:
        folder = self.folder / "packages" / checkpoint.revision
        if not folder.exists():
            shutil.copytree(checkpoint.folder, folder)
        record = run_record(self.identity("coordinator"), revision=checkpoint.revision)
        self.run(self._announce(record))

    async def _announce(self, record: RunRecord) -> None:
        """Until it is found: a store also counts as failed when a peer that has just left was asked."""
        link = parse(self.link)
        for _ in range(ANNOUNCEMENTS):
            await self._coordinator.announce(record)
            found = await self._coordinator.current_run(link)
            if found is not None and found.record.revision == record.revision:
                return
        raise AssertionError(f"revision {record.revision} was announced and is not found")

    def hosted(
        self, name: str, blocks: str, *, follows: bool = True, is_cramped: bool = False
    ) -> Hosted:
        """`follows`: whether it looks for new revisions at all; `is_cramped`: room for one only."""
        config = HostConfig(
            join=self.link,
            state_dir=str(self.folder / name),
            host="127.0.0.1",
            blocks=blocks,
            poll_seconds=POLL_SECONDS if follows else NEVER_SECONDS,
        )
        host = self.run(self._start(config, OneRoom if is_cramped else Guest))
        self._hosted.append(host)
        return host

    async def _start(self, config: HostConfig, kind: type[Guest]) -> Hosted:
        joined = await join(config)
        (joined.state_dir / status.STATUS_FILE).unlink(missing_ok=True)
        guest = kind(Limits(), joined.state_dir)
        host = Hosted(HostingPeer(joined, config, guest), joined, Stop())
        if isinstance(guest, OneRoom):
            guest.host = host.peer
        host.living = asyncio.create_task(host.peer.live(host.stop))
        async with asyncio.timeout(20.0):
            while not (joined.state_dir / status.STATUS_FILE).exists():  # it has looked once
                await asyncio.sleep(0.01)
        return host

    def end(self, host: Hosted) -> None:
        async def ended() -> None:
            host.stop.set()
            assert host.living is not None
            await host.living
            await host.joined.swarm.leave()

        self._hosted.remove(host)
        self.run(ended())

    def end_all(self) -> None:
        for host in list(self._hosted):
            self.end(host)

    async def model(self, revision: str | None = None) -> RemoteModel:
        """The run's newest revision, or one by name; all of one client."""
        if self._client is None:
            folder = str(self.folder / "client")
            self._client = await join(
                JoinConfig(join=self.link, state_dir=folder, host="127.0.0.1")
            )
        found = await self._client.swarm.run_record(self._client.link)
        return await RemoteModel.connect(
            Joined(self._client.swarm, self._client.link, found, self._client.state_dir), revision
        )

    def close(self) -> None:
        self.end_all()
        if self._client is not None:
            self.run(self._client.swarm.leave())
        gc.unfreeze()  # hosts freeze what is there when they are ready
        super().close()


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for something that happens on another task."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def pieces_of_text(
    prompt: list[int], tokens: list[int], session: TokenSession
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Revision, what it had read, and what it said after that, for each revision of a session.

    Its newest token is read only with the next step, so it is one ahead of what was read again.
    """
    begins = [0, *(roll.num_tokens + 1 - len(prompt) for roll in session.rolls), len(tokens)]
    revisions = [roll.ended for roll in session.rolls] + [session.revision]
    for revision, begin, end in zip(revisions, begins, begins[1:], strict=False):
        yield revision, [*prompt, *tokens[:begin]], tokens[begin:end]
