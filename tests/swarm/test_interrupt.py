"""Ctrl-C at any moment of the demo ends every process within 2 s."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.swarm, pytest.mark.alone]

MAX_SECONDS = 2.0
ORPHAN_SECONDS = 10.0
START_SECONDS = 90.0
MOMENTS = {
    "at the start": "to follow the logs",
    "while the base is pretrained": "pretrain the base",
    "while hosts join": "ready seshu://",
    "while donors train": "training on",
}


@pytest.mark.parametrize("said", MOMENTS.values(), ids=MOMENTS)
def test_ctrl_c_ends_every_process(said: str, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    command = [sys.executable, "-u", "-m", "seshu_swarm", "demo", "--folder", str(folder)]
    command += ["--d-model", "32", "--pretrain-seconds", "2", "--finetune-seconds", "60"]
    demo = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        wait_for(demo, said)
        time.sleep(0.5)
        demo.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert demo.wait(10) == 130
        while left := of_folder(folder):
            assert time.monotonic() - started < MAX_SECONDS, left
            time.sleep(0.02)
        assert time.monotonic() - started < MAX_SECONDS
    finally:
        demo.kill()
        demo.wait()


def test_a_killed_demo_leaves_no_process_either(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    command = [sys.executable, "-u", "-m", "seshu_swarm", "demo", "--folder", str(folder)]
    command += ["--d-model", "32", "--pretrain-seconds", "2"]
    demo = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    wait_for(demo, "host 1: ready")
    demo.kill()
    demo.wait()
    deadline = time.monotonic() + ORPHAN_SECONDS
    while left := of_folder(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def wait_for(demo: subprocess.Popen[str], said: str) -> None:
    """Until a line with `said` comes; the rest is read on, so that the pipe never fills."""
    heard = threading.Event()
    lines: list[str] = []

    def listen() -> None:
        assert demo.stdout is not None
        with demo.stdout as stream:
            for line in stream:
                lines.append(line)
                if said in line:
                    heard.set()

    threading.Thread(target=listen, daemon=True).start()
    assert heard.wait(START_SECONDS), "".join(lines)


def of_folder(folder: Path) -> list[int]:
    """Ids of live processes, p2p daemons too, that work in `folder`."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if str(folder) in " ".join(process.info["cmdline"] or ())
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
