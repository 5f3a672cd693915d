"""A trainer outlives a coordinator that is away, and a pause during which its plan comes to an end."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seshu_swarm.peer.config import TrainConfig
from seshu_swarm.peer.guest import Guest, Limits
from seshu_swarm.peer.training import train
from seshu_swarm.program.progress import Bar
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import join
from seshu_swarm.streams.channel import Channel
from seshu_swarm.training.loop import Batch
from tests.conftest import TinyCheckpoint
from tests.peer.training.test_stage import Conductor, Pretraining


class Pausing(Guest):
    reason = ""

    def pause_reason(self) -> str:
        return self.reason


def no_batch(number: int) -> Batch:
    raise AssertionError(f"no step was begun, and microbatch {number} was asked for")


def test_who_comes_back_waits_for_the_coordinator_and_learns_the_end(
    tmp_path: Path, tiny: TinyCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCH_SECONDS", "PAUSED_SECONDS", "AGAIN_SECONDS"):
        monkeypatch.setattr(train, name, 0.1)
    serve, dials = Conductor.serve, list[bool]()

    async def away_at_first(self: Conductor, channel: Channel) -> None:
        dials.append(True)
        if len(dials) in (1, 2, 4):
            channel.abort()
        else:
            await serve(self, channel)

    monkeypatch.setattr(Conductor, "serve", away_at_first)
    run = Pretraining(tmp_path, tiny)
    run.conductor.group = run.record.num_stages

    async def work() -> bool:
        where = str(tmp_path / "trainer")
        joined = await join(TrainConfig(join=run.link, state_dir=where, host="127.0.0.1"))
        guest = Pausing(Limits(), joined.state_dir)
        with ThreadPoolExecutor(1) as executor, Bar("training") as bar:
            training = train.Training(
                joined, run.record, guest, no_batch, executor=executor, bar=bar
            )
            living = asyncio.create_task(training.live(Stop(), None))
            try:
                await run.conductor.until(lambda status: True)
                guest.reason = "outside of its hours"
                await asyncio.wait_for(run.conductor.left.wait(), 10.0)
                run.conductor.is_over = True
                guest.reason = ""
                return await asyncio.wait_for(living, 20.0)
            finally:
                living.cancel()
                await asyncio.gather(living, return_exceptions=True)
                await joined.swarm.leave()

    try:
        assert run.run(work())
        assert len(dials) == 5
    finally:
        run.close()
