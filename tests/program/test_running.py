"""The life of a process: stopped by a signal, cancelled if deaf, and no child left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from seshu_swarm.program import running
from seshu_swarm.program.running import Stop


def test_work_that_ends_gives_the_exit_code() -> None:
    async def work(stop: Stop) -> int:
        assert not stop.is_set()
        return 7

    assert running.run(work) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_work_that_heeds_it(number: signal.Signals) -> None:
    async def work(stop: Stop) -> int:
        os.kill(os.getpid(), number)
        await stop.wait()
        assert stop.is_set() and not await stop.sleep(60)
        return 0

    assert running.run(work) == 0


def test_deaf_work_is_cancelled_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "STOP_SECONDS", 0.1)

    async def work(stop: Stop) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)
        return 0

    began = time.monotonic()
    assert running.run(work) == 130
    assert time.monotonic() - began < 5.0


def test_no_child_is_left_behind() -> None:
    children: list[subprocess.Popen[bytes]] = []

    async def work(stop: Stop) -> int:
        start_child()
        raise KeyError("a bug")

    def start_child() -> None:
        children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))

    with pytest.raises(KeyError):
        running.run(work)
    [child] = children
    assert child.wait(5.0) == -signal.SIGKILL


def test_what_repeats_goes_on_after_a_failure_and_ends_with_the_stop() -> None:
    calls: list[int] = []

    async def work(stop: Stop) -> int:
        async def act() -> None:
            calls.append(len(calls))
            if len(calls) == 2:
                raise OSError("the swarm is away")
            if len(calls) == 4:
                stop.set()

        await running.repeat(stop, 0.001, act)
        return 0

    assert running.run(work) == 0
    assert calls == [0, 1, 2, 3]


def test_threads_of_the_loop_keep_to_the_owners_limit() -> None:
    """A matrix product in a worker thread has the bits of one thread, as in the main thread."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(1, 7, 32, generator=generator),
        torch.randn(128, 32, generator=generator),
    )
    expected = torch.nn.functional.linear(x, weight)

    async def work(stop: Stop) -> int:
        found = await asyncio.to_thread(torch.nn.functional.linear, x, weight)
        return int(torch.equal(found, expected))

    assert running.run(work) == 1
