"""Gateway and chat as people start them: real processes, a killed peer, a terminal."""

from __future__ import annotations

import codecs
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from seshu_swarm import checkpoints
from seshu_swarm.data.prompts import prompt_for_generation
from seshu_swarm.data.tokeniser import ByteTokeniser
from tests.conftest import TinyCheckpoint
from tests.swarms import Fault, Processes, RoleProcess, inject, open_run

pytestmark = pytest.mark.swarm

NUM_TOKENS = 3_000
TOKENISER = ByteTokeniser()


@pytest.fixture(scope="module")
def swarm(
    tiny: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Processes, str, list[RoleProcess]]]:
    """A coordinator and hosts of both halves, two of each."""
    folder = tmp_path_factory.mktemp("swarm")
    open_run(tiny.folder, folder / "run")
    with Processes(folder) as processes:
        coordinator = processes.coordinator(folder / "run", "--round-seconds", "600")
        link = coordinator.ready(seconds=60)["link"]
        blocks = ["0:2", "2:4", "0:2", "2:4"]
        hosts = [processes.host(link, span, "--max-threads", "1") for span in blocks]
        for host in hosts:
            host.ready(seconds=60)
        yield processes, link, hosts


def where(processes: Processes, link: str, name: str) -> tuple[str, ...]:
    return ("--join", link, "--state-dir", str(processes.folder / name), "--host", "127.0.0.1")


def greedy(tiny: TinyCheckpoint, prompt: str, num: int) -> str:
    whole = checkpoints.load_whole(tiny.folder)
    return TOKENISER.decode(whole.generate_greedy(TOKENISER.encode(prompt), max_new_tokens=num))


def test_a_script_talks_line_by_line(
    swarm: tuple[Processes, str, list[RoleProcess]], tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    processes, link, _ = swarm
    command = [sys.executable, "-m", "seshu_swarm.client", "chat", "--max-new-tokens", "8"]
    command += ["--ignore-end", *where(processes, link, "script")]
    path = tmp_path / "talk.safetensors"
    lines = f"one\n\n/save {path}\ntwo\n/reset\none\n/load {path}\ntwo\n/quit\nnever\n"
    done = subprocess.run(
        command, input=lines.encode(), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    first = greedy(tiny, prompt_for_generation("one"), 8)
    found = done.stdout.decode()
    assert found.startswith(f"{first}\n")
    second = found.removeprefix(f"{first}\n").partition(f"\n{first}\n")[0]
    assert found == f"{first}\n{second}\n{first}\n{second}\n"
    assert path.is_file() and b"saved in" in done.stderr
    # What a script gets wrong ends it.
    wrong = subprocess.run(
        command, input=b"/what\none\n", capture_output=True, timeout=120, check=False
    )
    assert wrong.returncode == 2 and b"/what is no command" in wrong.stderr
    assert b"Traceback" not in wrong.stderr and wrong.stdout == b""


class Terminal:
    """A program on a terminal of its own; what it wrote so far is `text`."""

    def __init__(self, command: list[str]) -> None:
        self.main, child = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=child, stdout=child, stderr=child, start_new_session=True
        )
        os.close(child)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def wait_for(self, text: str, *, seconds: float = 60.0) -> None:
        """Until `text` was written after what was waited for before."""
        self._read_until(lambda: text in self.text, repr(text), seconds)
        self.text = self.text.partition(text)[2]

    def wait_for_more(self, *, seconds: float = 60.0) -> None:
        """Until anything was written after what was waited for before."""
        self._read_until(lambda: bool(self.text.strip()), "more", seconds)

    def _read_until(self, is_there: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_there():
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.main], [], [], max(0.0, left))
            assert readable, f"no {what} in {seconds:g} s: {self.text}"
            self.text += self._decoder.decode(os.read(self.main, 4096))

    def interrupt(self) -> None:
        """What the terminal does on Ctrl-C; the program here has no controlling terminal."""
        os.killpg(self.process.pid, signal.SIGINT)


def test_a_person_talks_in_a_terminal(
    swarm: tuple[Processes, str, list[RoleProcess]],
) -> None:
    processes, link, _ = swarm
    command = [sys.executable, "-m", "seshu_swarm.client", "chat", "--max-new-tokens", "100000"]
    command += ["--ignore-end", *where(processes, link, "person")]
    terminal = Terminal(command)
    try:
        terminal.wait_for("ready ")
        terminal.wait_for("› ")
        terminal.type("/what\n")
        terminal.wait_for("error: /what is no command")
        terminal.wait_for("› ")
        terminal.type("hello\n")
        terminal.wait_for("hello\r\n")
        terminal.wait_for_more()
        terminal.interrupt()  # stops the answer
        terminal.wait_for("› ")
        terminal.type("again\n")
        terminal.wait_for("again\r\n")
        terminal.wait_for_more()
        terminal.interrupt()
        terminal.wait_for("› ")
        terminal.interrupt()  # and a second one leaves
        assert terminal.process.wait(20) == 130
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.main)


def test_a_stream_outlives_any_one_peer(
    swarm: tuple[Processes, str, list[RoleProcess]], tiny: TinyCheckpoint
) -> None:
    """The official client reads on while a serving peer is killed: no gap, no repetition."""
    processes, link, hosts = swarm
    flags = ("--http-port", "0", "--verbose", *where(processes, link, "gateway"))
    gateway = processes.start("seshu_swarm.client", "serve", *flags)
    url = gateway.ready(seconds=60)["url"]
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60.0) as client:
        model = next(iter(client.models.list())).id
        stream = client.completions.create(
            model=model,
            prompt="நலமா",
            max_tokens=NUM_TOKENS,
            temperature=0,
            stream=True,
            logprobs=0,
            extra_body={"ignore_eos": True},
        )
        text, num_tokens, killed = "", 0, list[RoleProcess]()
        for event in stream:
            choice = event.choices[0]
            text += choice.text
            num_tokens += len((choice.logprobs and choice.logprobs.tokens) or ())
            if num_tokens > 40 and not killed:
                killed = [host for host in hosts if host.ready()["peer_id"] in gateway.tail()]
                inject(killed[-1], Fault.KILL)
    assert len(killed) == 2 and num_tokens == NUM_TOKENS
    assert text == greedy(tiny, "நலமா", NUM_TOKENS)
    metrics = httpx2.get(f"{url.removesuffix('/v1')}/metrics").text
    (recoveries,) = re.findall(r"^seshu_gateway_recoveries_total (\S+)$", metrics, re.MULTILINE)
    assert float(recoveries) >= 1, "the kill came after the last token"
    inject(gateway, Fault.TERMINATE)
    assert gateway.wait(seconds=20) in (0, 130)
    assert "Traceback" not in gateway.tail()
