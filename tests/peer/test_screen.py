"""The owner's screen: what the panel says, and a real host on a real terminal."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from seshu_swarm.peer import screen
from seshu_swarm.peer.guest import Limits
from seshu_swarm.peer.panel import panel
from seshu_swarm.peer.seen import Seen
from seshu_swarm.program import progress, waits
from seshu_swarm.program.progress import Bar, Shown
from seshu_swarm.program.waits import Wait
from tests.conftest import TinyCheckpoint
from tests.online import Online

TABLE = {"role": "host", "run": "seshu", "blocks": "0:2", "revision": "ab" * 32, "sessions": 0}
TABLE |= {"steps": 7, "tokens": 1_204, "pid": 1, "time": 2.0, "paused": "", "limits": "…"}
TABLE |= {"memory_bytes": 366e6, "uploaded_today_bytes": 12_300_000, "step_loss": 2.34567}


def drawn(seen: Seen, now: float, *waits: Wait) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(panel(seen, waits, now))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_panel_says_what_is_given_and_within_which_limits() -> None:
    seen = Seen()
    limits = Limits(max_memory_bytes=2 * 10**9, max_upload_bytes=5 * 10**8, hours=(22, 6))
    seen.tell(TABLE, limits, now=10.0)
    text = drawn(seen, now=44.0)
    for words in (
        "Seshu peer · host · run seshu",
        "blocks 0:2 · revision abababababab",
        "1,204 tokens · 0 sessions · 12.3 MB sent today",
        "for somebody who asks, 34 s",
        "memory 366 of 2,000 MB · upload 12.3 of 500.0 MB a day · hours 22-6",
        "step loss 2.346",
    ):
        assert words in text
    assert "paused" not in text
    seen.tell(TABLE | {"sessions": 2, "paused": "outside --only-hours 22-6"}, limits, now=50.0)
    text = drawn(seen, now=51.0)
    assert "for somebody" not in text and "outside --only-hours 22-6" in text


def test_the_panel_says_for_what_is_waited_and_how_far_work_is() -> None:
    seen = Seen(progress=Shown("training", 0.25, {"loss": 1.5}, 90.0))
    seen.tell(TABLE | {"doing": "[bold]training"}, Limits(), now=1.0)
    seen.tell(TABLE | {"doing": "[bold]training"}, Limits(), now=3.0)
    text = drawn(seen, 8.0, Wait("the round's verdict", since=5.0, most_seconds=3_600.0))
    assert "for the round's verdict, 3 s of at most 1:00:00" in text
    assert "training 25% loss 1.5, 90 s left" in text
    assert "[bold]training · 7 s" in text, "as text, since it was first told"


def test_a_screen_takes_progress_and_is_told_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[Shown | None] = []
    monkeypatch.setattr(progress, "taken_by", taken.append)
    with Bar("training") as bar:
        bar.update(0.25, loss=1.5)
    assert taken == [Shown("training", 0.25, {"loss": 1.5}, None), None]
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_nothing_is_drawn_and_a_long_wait_is_logged_once(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waits, "SAY_SECONDS", 0.05)

    async def wait() -> None:
        with waits.waiting("nothing that lasts", 1.0):
            pass
        with waits.waiting("the swarm", 20.0):
            await asyncio.sleep(0.2)

    with caplog.at_level(logging.INFO), screen.showing():
        asyncio.run(wait())
    assert capsys.readouterr() == ("", "")
    assert waits.current() == []
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for the swarm, at most 20 s"
    ]


@pytest.fixture
def online(tiny: TinyCheckpoint, tmp_path: Path) -> Iterator[Online]:
    swarm = Online(tmp_path / "online", tiny)
    yield swarm
    swarm.close()


@pytest.mark.swarm
def test_a_host_on_a_terminal_shows_itself_and_leaves_it_as_it_was(
    online: Online, tmp_path: Path
) -> None:
    main, child = pty.openpty()
    command = [sys.executable, "-m", "seshu_swarm.peer", "host", "--join", online.link]
    command += ["--state-dir", str(tmp_path / "host"), "--host", "127.0.0.1", "--blocks", "0:2"]
    command += ["--max-threads", "1", "--max-memory", "4GB", "--poll-seconds", "0.5"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env=environment, start_new_session=True
    )
    os.close(child)
    try:
        seen = read_until(main, r"gives.*0 sessions.*waits.*somebody who asks.*of 4,000 MB")
        assert "ready hosting blocks 0:2" in seen, "its events stand above the panel"
        os.killpg(process.pid, signal.SIGINT)
        rest = read_until(main, None)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
    assert "\x1b[?25h" in rest, "the cursor is back"
    assert "Traceback" not in seen + rest


def read_until(main: int, pattern: str | None, *, seconds: float = 60.0) -> str:
    """What was written until it fits; None: to its end."""
    deadline, data = time.monotonic() + seconds, b""
    while pattern is None or not re.search(pattern, data.decode(errors="replace"), re.DOTALL):
        readable, _, _ = select.select([main], [], [], max(0.0, deadline - time.monotonic()))
        assert readable, f"no {pattern} in {seconds:g} s: {data.decode(errors='replace')}"
        try:
            piece = os.read(main, 65_536)
        except OSError:  # the other side is closed
            piece = b""
        if not piece:
            break
        data += piece
    return data.decode(errors="replace")
