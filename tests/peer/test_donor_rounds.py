"""A donor over rounds, in one event loop with a coordinator whose rounds the test decides.

Streams, DHT, holders, intake, ledger and training are the real ones.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import torch

from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState
from seshu_swarm.coordinator.state.ledger import Ledger, Round, Submission
from seshu_swarm.data.jsonl import row_line
from seshu_swarm.data.phrasebook import rows_of
from seshu_swarm.errors import DeadlineError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.network.link import Link
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating import donor as donor_module
from seshu_swarm.peer.donating import waiting
from seshu_swarm.peer.donating.donor import Donor
from seshu_swarm.peer.donating.waiting import _Desk
from seshu_swarm.program.running import Stop
from seshu_swarm.records import uids
from seshu_swarm.records.kinds import AdapterRecord, Record
from seshu_swarm.run.joining import Joined
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import BLOBS, INTAKE
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID, Loopback
from tests.samples import run_record
from tests.spans import make_guest

torch.set_num_threads(1)
pytestmark = pytest.mark.swarm


class Coordinator(Loopback):
    """Rounds begin, end and judge as they are told."""

    def __init__(self, folder: Path, tiny: TinyCheckpoint) -> None:
        super().__init__(folder)
        self.tiny, packages = tiny, folder / "packages"
        self.swarm = self.join("coordinator")
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.ledger.set_fact("run_id", RUN_ID)
        shutil.copytree(tiny.folder, packages / tiny.revision)
        policy = HolderPolicy(takes_adapters=True)
        holder = Holder(
            packages, policy=policy, allow_upload=lambda _: True, on_stored=lambda _: None
        )
        self.is_silent = False
        self.run(self.swarm.serve(BLOBS, holder.serve))
        self.run(self.swarm.serve(INTAKE, self._serve))

    async def _serve(self, channel: Channel) -> None:
        if self.is_silent:
            channel.close()
        else:
            await Intake(self.ledger, self.current).serve(channel)

    def current(self) -> Round | None:
        rounds = self.ledger.rounds()
        return rounds[-1] if rounds and rounds[-1].state not in ENDED else None

    async def begin(self) -> None:
        """The next round, on the same base: the one before came to nothing."""
        if current := self.current():
            self.ledger.move_round(current.number, RoundState.ABORTED, reason="on purpose")
        revision = self.tiny.revision
        number = self.ledger.begin_round(parent=revision, seed=1, closes_at=time.time() + 600)
        me = self.identity("coordinator")
        record = run_record(
            me, revision=revision, round_index=number.number, lora_max_rank=8, languages=("hi",)
        )
        assert await self.swarm.announce(record)

    async def joined(self, name: str) -> Joined:
        swarm = await self.joining(name)
        fingerprint = self.identity("coordinator").fingerprint
        link = Link(RUN_ID, fingerprint, tuple(self.addresses))
        return Joined(swarm, link, await swarm.run_record(link), self.folder / name)

    async def handed_in(self, number: int) -> list[Submission]:
        """What lies in the round, when something does."""
        return await until(lambda: self.ledger.adapters(number))


@pytest.fixture
def coordinator(tiny: TinyCheckpoint, tmp_path: Path) -> Iterator[Coordinator]:
    loopback = Coordinator(tmp_path / "run", tiny)
    yield loopback
    loopback.close()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    found = rows_of("hi", ["ta"], Random(0))[:60]
    path.write_text("".join(map(row_line, found)), encoding="utf-8")
    return path


async def until(found: Callable[[], list[Submission]]) -> list[Submission]:
    while not (there := found()):
        await asyncio.sleep(0.05)
    return there


def test_a_donor_goes_on_after_rounds_that_publish_nothing(
    coordinator: Coordinator, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(donor_module, "FOLLOW_SECONDS", 0.1)
    monkeypatch.setattr(waiting, "FIRST_PAUSE_SECONDS", 0.1)
    ledger = coordinator.ledger

    def judge(digest: str, reason: str) -> None:
        ledger.judge(digest, state="rejected", reason=reason, gain="", next_step="")

    async def story() -> None:
        await coordinator.begin()
        joined = await coordinator.joined("donor")
        state_dir = str(joined.state_dir)
        settings = FinetuneConfig(
            state_dir=state_dir,
            data=str(rows),
            language="hi",
            follow=True,
            max_steps=4,
            batch_tokens=256,
            rank=4,
        )
        stop = Stop()
        live = asyncio.create_task(
            Donor(joined, settings, make_guest(joined.state_dir), stop).live()
        )
        (first,) = await coordinator.handed_in(1)

        judge(first.digest, "NOT_PUBLISHED: the round published nothing")
        await coordinator.begin()
        (again,) = await coordinator.handed_in(2)
        assert again.digest == first.digest, "it takes part by itself, without new training"

        # Nothing but the first reading has the rows: they are read once.
        rows.unlink()
        judge(first.digest, "NO_GAIN: it adds 0")
        await coordinator.begin()
        (third,) = await coordinator.handed_in(3)
        assert third.digest != first.digest, "after a final no the same bytes are not made again"
        adapters = joined.state_dir / "adapters"
        assert len([one for one in adapters.iterdir() if one.suffix != ".state"]) == 2
        stop.set()
        await live

    coordinator.run(story(), seconds=90)


async def on_the_shelf(swarm: Swarm, record: AdapterRecord) -> bool:
    key = uids.adapter_key(RUN_ID, record.digest)
    return bool(await swarm.lookup([key], AdapterRecord))


def adapter_record(tiny: TinyCheckpoint, digest: str) -> AdapterRecord:
    return AdapterRecord(
        run_id=RUN_ID,
        reference=f"swarm://sha256/{digest}",
        digest=digest,
        base_revision=tiny.revision,
        rank=4,
        language="hi",
        num_rows=10,
        licence="CC0-1.0",
        round_index=1,
    )


def test_an_adapter_is_handed_in_only_once_there_was_an_answer(
    coordinator: Coordinator, tiny: TinyCheckpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    record = adapter_record(tiny, "5" * 64)

    async def story() -> None:
        await coordinator.begin()
        joined = await coordinator.joined("donor")
        desk = _Desk(joined, record)
        coordinator.is_silent = True
        assert await desk.ask() is None
        assert "handed in" not in capsys.readouterr().out
        assert await on_the_shelf(coordinator.swarm, record), "found there, should it come too late"
        coordinator.is_silent = False
        verdict = await desk.ask()
        assert verdict is not None and verdict.state == "pending"
        assert capsys.readouterr().out.count("handed in") == 1

    coordinator.run(story())


def test_a_dht_that_is_silent_after_the_answer_ends_no_donor(
    coordinator: Coordinator, tiny: TinyCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = adapter_record(tiny, "6" * 64)
    kept: Callable[[Swarm, Record], Awaitable[bool]] = Swarm.announce
    failures = [DeadlineError("the DHT to store it: no answer after 5 s")]

    async def silent_once(self: Swarm, record: Record) -> bool:
        if isinstance(record, AdapterRecord) and failures:
            raise failures.pop()
        return await kept(self, record)

    async def story() -> None:
        await coordinator.begin()
        joined = await coordinator.joined("donor")
        monkeypatch.setattr(Swarm, "announce", silent_once)
        desk = _Desk(joined, record)
        verdict = await desk.ask()
        assert verdict is not None and verdict.state == "pending" and not failures
        assert not await on_the_shelf(coordinator.swarm, record)
        await desk.ask()
        assert await on_the_shelf(coordinator.swarm, record)

    coordinator.run(story())
