"""What people get wrong, at the real command lines: one line with the way out, and an exit code."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TinyCheckpoint
from tests.swarms import Processes, open_run

pytestmark = pytest.mark.swarm

COORDINATOR, PEER, CLIENT = (f"seshu_swarm.{r}" for r in ("coordinator", "peer", "client"))


@pytest.fixture(scope="module")
def link(tiny: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("away")
    with Processes(folder) as swarm:
        yield swarm.coordinator(open_run(tiny.folder, folder / "run")).ready()["link"]


def fail(module: str, *arguments: str) -> tuple[int, str]:
    """Exit code and the one line on standard error."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr, done.stderr
    assert len(errors) == 1, done.stderr
    return done.returncode, errors[0]


def join(link: str, folder: Path) -> tuple[str, ...]:
    return "--join", link, "--state-dir", str(folder), "--host", "127.0.0.1"


def test_no_link(tmp_path: Path) -> None:
    assert fail(PEER, "host", "--state-dir", str(tmp_path))[0] == 2


def test_a_link_that_is_cut_short(link: str, tmp_path: Path) -> None:
    code, line = fail(PEER, "host", *join(link[:60], tmp_path))
    assert code == 11 and "copy the whole link" in line


def test_a_link_with_another_key(link: str, tmp_path: Path) -> None:
    start = link.index("key=") + 4
    forged = link[:start] + "0" * 64 + link[start + 64 :]
    code, line = fail(CLIENT, "status", *join(forged, tmp_path))
    assert code == 13 and "is signed by key" in line and "0" * 64 in line


def test_a_link_to_nobody(link: str, free_port: int, tmp_path: Path) -> None:
    port = link.split("/tcp/")[1].split("/")[0]
    code, line = fail(CLIENT, "status", *join(link.replace(port, str(free_port)), tmp_path))
    assert code == 12 and f"/tcp/{free_port}/" in line


def test_a_link_to_another_run(link: str, tmp_path: Path) -> None:
    code, line = fail(CLIENT, "status", *join(link.replace("//seshu?", "//other?"), tmp_path))
    assert code == 12 and "knows no run 'other'" in line


def test_a_taken_port(link: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, line = fail(PEER, "host", *join(link, tmp_path), "--port", port)
    assert code == 32 and port in line and "--port" in line


def test_blocks_that_do_not_fit_the_memory_limit(link: str, tmp_path: Path) -> None:
    flags = ("--blocks", "0:4", "--max-memory", "1MB")
    code, line = fail(PEER, "host", *join(link, tmp_path), *flags)
    assert code == 33 and "--max-memory" in line


def test_a_folder_without_the_language(tmp_path: Path) -> None:
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / "hi.jsonl").write_text('{"text": "नमस्ते"}\n')
    flags = ("--data", str(tmp_path), "--languages", "ta", "--state-dir", str(tmp_path / "run"))
    code, line = fail(COORDINATOR, "open", *flags)
    assert code == 20 and "'ta'" in line and "hi" in line
    assert not (tmp_path / "run" / "ledger.sqlite").exists()


def test_an_unreadable_row(tmp_path: Path) -> None:
    (tmp_path / "pretrain").mkdir()
    file = tmp_path / "pretrain" / "hi.jsonl"
    file.write_text(json.dumps({"text": "नमस्ते"}) + "\n{not json\n")
    flags = ("--data", str(tmp_path), "--languages", "hi", "--state-dir", str(tmp_path / "run"))
    code, line = fail(COORDINATOR, "open", *flags)
    assert code == 20 and f"{file} line 2" in line and "--bad-rows skip" in line


def test_a_misspelt_setting(tmp_path: Path) -> None:
    file = tmp_path / "peer.toml"
    file.write_text('max_memroy = "1GB"\n')
    code, line = fail(PEER, "host", "--config", str(file))
    assert code == 2 and "'max_memory'" in line


def test_a_run_that_was_never_opened(tmp_path: Path) -> None:
    code, line = fail(COORDINATOR, "run", "--state-dir", str(tmp_path / "nothing"))
    assert code == 2 and "coordinator open" in line
