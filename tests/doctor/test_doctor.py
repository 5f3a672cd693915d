"""The doctor: judgements of facts, and the real thing on loopback."""

from __future__ import annotations

import asyncio
import errno
import http.server
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from seshu_swarm.doctor import entrances, hub, machine, run, showing, software, swarm
from seshu_swarm.doctor.config import DoctorConfig
from seshu_swarm.doctor.entrances import Dialled, Place
from seshu_swarm.doctor.findings import Finding, Grade, exit_code, failed, passed, warned
from seshu_swarm.doctor.software import TorchFacts
from seshu_swarm.doctor.swarm import Received
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.link import Link
from seshu_swarm.network.reach import Kind, Reach
from tests.loopback import RUN_ID, Loopback
from tests.samples import run_record

SECRET = "hf_ThisMustNeverBeShown"
UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("finding", "grade", "said"),
    [
        (software.judge_python((3, 10, 4)), Grade.FAIL, "3.10.4"),
        (software.judge_python((3, 11, 0)), Grade.PASS, "3.11.0"),
        (software.judge_torch(TorchFacts(obstacle="ImportError: no")), Grade.FAIL, "ImportError"),
        (software.judge_torch(TorchFacts("2.9", "12.8")), Grade.WARN, "no CUDA device"),
        (software.judge_torch(TorchFacts("2.9", "12.8", "H100")), Grade.PASS, "H100"),
        (software.judge_kernels("torch", "no compiler", "triton: x"), Grade.WARN, "no compiler"),
        (software.judge_daemon(Path("p2pd"), "may not be executed"), Grade.FAIL, "p2pd"),
        (machine.judge_memory(400_000_000), Grade.FAIL, "400.0 MB"),
        (machine.judge_memory(1_400_000_000), Grade.WARN, "1.4 GB"),
        (machine.judge_disk(Path("x"), 100_000_000, ""), Grade.FAIL, "100.0 MB"),
        (machine.judge_disk(Path("x"), 9_000_000_000, ""), Grade.PASS, "9.0 GB"),
        (machine.judge_disk(Path("x"), 0, "is a file"), Grade.FAIL, "is a file"),
        (machine.judge_files(128, UNLIMITED), Grade.FAIL, "128"),
        (machine.judge_files(512, 4_096), Grade.WARN, "512"),
        (machine.judge_files(UNLIMITED, UNLIMITED), Grade.PASS, "no limit"),
        (machine.judge_port("0.0.0.0", 80, errno.EACCES), Grade.FAIL, "0.0.0.0:80"),
        (machine.judge_port("9.9.9.9", 0, errno.EADDRNOTAVAIL), Grade.FAIL, "assign"),
        (machine.judge_range((32_768, 60_999)), Grade.PASS, "32768 to 60999"),
        (machine.judge_range((40_000, 40_010)), Grade.WARN, "few"),
        (hub.judge_answer("in HF_TOKEN", "hub", "HfHubHTTPError 401"), Grade.FAIL, "not know it"),
        (swarm.judge_clock([0.1, 0.2, 90.0]), Grade.PASS, "0.20 s ahead"),
        (swarm.judge_clock([-2.0]), Grade.WARN, "2.00 s behind"),
        (swarm.judge_clock([4.0]), Grade.FAIL, "at most 3 s"),
        (swarm.judge_clock([]), Grade.WARN, "no peer"),
        (swarm.judge_reach(Reach(Kind.UNKNOWN)), Grade.WARN, "unknown"),
        (
            swarm.judge_reach(Reach(Kind.RELAYED, ("A",), "tried 1.2.3.4:5 from 1 peer", 0.03)),
            Grade.WARN,
            "at least 60 ms",
        ),
        (swarm.judge_rate(Received(4_000_000, 2.0)), Grade.PASS, "2.0 MB/s"),
        (swarm.judge_rate(Received(2_000_000, 20.0)), Grade.WARN, "100 kB/s"),
    ],
)
def test_facts_are_judged(finding: Finding, grade: Grade, said: str) -> None:
    assert finding.grade is grade
    assert said in finding.what
    assert finding.way_out or grade is Grade.PASS


def test_only_what_failed_changes_the_exit_code() -> None:
    assert exit_code([passed("a", ""), warned("b", "", "x")]) == 0
    assert exit_code([passed("a", ""), failed("b", "", "x")]) == 1


def test_text_from_elsewhere_is_text() -> None:
    console = Console(width=200, record=True, quiet=False, file=open(os.devnull, "w"))  # noqa: SIM115
    try:
        showing.show([failed("[red]x[/red]", "\x1b[2J[bold]y", "z")], console)
    finally:
        console.file.close()
    shown = console.export_text()
    assert "[red]x[/red]" in shown and "[bold]y" in shown and "\x1b" not in shown


@pytest.fixture
def web_server() -> Iterator[int]:
    """A port at which something else than a peer answers."""

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_each_address_of_a_link_is_named_with_what_is_there(
    loopback: Loopback, free_port: int
) -> None:
    """A peer, nobody, a program that is no peer, and a name that does not exist."""
    peer = loopback.join("greets")

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6 and more of it\r\n")
        await writer.drain()
        writer.close()

    async def check() -> list[Finding]:
        async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await entrances.check(
                (
                    address,
                    f"/ip4/127.0.0.1/tcp/{free_port}/p2p/QmNobody",
                    f"/ip4/127.0.0.1/tcp/{port}/p2p/QmOther1",
                    "/dns4/no-such-host.invalid/tcp/1/p2p/QmNoName",
                )
            )

    address = loopback.run(peer.addresses())[0]
    told = loopback.run(check())
    assert [f.grade for f in told] == [Grade.PASS, Grade.WARN, Grade.WARN, Grade.WARN]
    assert told[0].name == f"peer …{peer.peer_id[-6:]}"
    assert "nobody listens there" in told[1].what
    assert "another program" in told[2].what
    assert "cannot be resolved" in told[3].what


def test_where_no_address_answers_all_fail_and_loopback_is_explained() -> None:
    told = entrances.judge([Dialled(Place("127.0.0.1", 1, "QmA"), "refuses")])
    assert [f.grade for f in told] == [Grade.FAIL]
    assert "coordinator's own machine" in told[0].way_out


def test_from_inside_a_swarm(loopback: Loopback) -> None:
    maintainer = loopback.join("maintainer")
    me = loopback.identity("maintainer")
    loopback.run(maintainer.announce(run_record(me, run_id=RUN_ID)))
    wanted = Link(RUN_ID, me.fingerprint, tuple(loopback.run(maintainer.addresses())))
    told = {f.name: f for f in loopback.run(swarm.check(wanted, Listen("127.0.0.1")))}
    assert told["run"].grade is Grade.PASS
    assert told["clock"].grade is Grade.PASS
    assert told["nat"].grade is Grade.PASS and "direct" in told["nat"].what
    assert told["bandwidth"].grade is Grade.WARN  # this maintainer gives no files


def test_a_link_that_is_none_and_one_of_a_dead_peer_are_findings(free_port: int) -> None:
    async def told(link: str) -> list[Finding]:
        return await run.examine_swarm(DoctorConfig(join=link, host="127.0.0.1"))

    (finding,) = asyncio.run(told("https://example.org"))
    assert (finding.name, finding.grade) == ("join link", Grade.FAIL)
    peer = f"/ip4/127.0.0.1/tcp/{free_port}/p2p/QmDead"
    dead, nat = asyncio.run(told(f"seshu://r?key={'0' * 64}&peer={peer}"))
    assert (dead.name, dead.grade) == ("peer …QmDead", Grade.FAIL)
    assert (nat.name, nat.grade) == ("nat", Grade.FAIL)
    (finding,) = asyncio.run(told(""))
    assert finding.grade is Grade.WARN


def test_this_machine_and_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = {f.name: f for f in machine.check(tmp_path / "not" / "there", "127.0.0.1", port)}
    assert told["port"].grade is Grade.FAIL and "taken" in told["port"].what
    assert told["disk"].grade is not Grade.FAIL
    assert set(told) == {"memory", "disk", "open files", "port", "port range"}


@pytest.mark.parametrize(
    ("is_dead", "grade"), [(True, "warn"), (False, "fail")], ids=["no Hub", "token refused"]
)
def test_a_token_is_tried_and_never_shown(
    is_dead: bool, grade: str, web_server: int, free_port: int, tmp_path: Path
) -> None:
    endpoint = f"http://127.0.0.1:{free_port if is_dead else web_server}"
    program = (
        "import dataclasses, json; from seshu_swarm.doctor import hub;"
        "print(json.dumps(dataclasses.asdict(hub.check(True))))"
    )
    environment = {"HF_TOKEN": SECRET, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["grade"] == grade, told
    assert "HF_TOKEN" in told["what"]
    assert SECRET not in done.stdout + done.stderr


def test_the_command_answers_as_json_with_an_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "seshu_swarm", "doctor", "--json", "--host", "127.0.0.1"),
            *("--state-dir", str(tmp_path), "--join", "seshu://"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = json.loads(done.stdout)
    assert done.returncode == 1 and told["passed"] is False
    assert "Traceback" not in done.stderr
    grades = {f["name"]: f["grade"] for f in told["findings"]}
    assert grades["python"] == grades["torch"] == grades["p2p daemon"] == "pass"
    assert grades["join link"] == "fail"
