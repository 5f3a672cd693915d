"""A revision ends for good: a host without memory for two, and everybody who was talking to it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import openai
import psutil
import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.client.gateway.text import token_text
from seshu_swarm.client.remote.turns import question_ids
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.peer.served import bytes_to_host
from seshu_swarm.spans import Span
from tests.client.rolls import Rolling, loud_checkpoint, until
from tests.conftest import TinyCheckpoint
from tests.swarms import Event, Fault, Processes, RoleProcess, inject

pytestmark = pytest.mark.swarm

# Blocks that can be told from the noise of a process's memory: 59 MB.
WIDTH = 768
NUM_TOKENS = 4_000
NUM_AFTER = 30
CHAT_TOKENS = 8
PROMPT = "நலமா"
TOKENISER = ByteTokeniser()


@dataclass
class Stage:
    """One host, a run, and the references of its two revisions."""

    rolling: Rolling
    processes: Processes
    revisions: list[TinyCheckpoint]
    wholes: list[WholeModel]
    host: RoleProcess

    def where(self, name: str) -> tuple[str, ...]:
        folder = str(self.processes.folder / name)
        return ("--join", self.rolling.link, "--state-dir", folder, "--host", "127.0.0.1")

    def expected(self, num_read: int, num_tokens: int) -> list[int]:
        """The first revision's answer, of which `num_read` tokens with the prompt were read again; its
        newest token was not read yet. The second one's after that."""
        ids = TOKENISER.encode(PROMPT)
        said = self.wholes[0].generate_greedy(ids, max_new_tokens=num_read + 1 - len(ids))
        rest = num_tokens - len(said)
        return [*said, *self.wholes[1].generate_greedy([*ids, *said], max_new_tokens=rest)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    torch.set_num_threads(1)
    like = TinyCheckpoint(tmp_path, "", d_model=WIDTH)
    revisions = [loud_checkpoint(tmp_path / f"{seed}", like, seed=seed) for seed in (1, 2)]
    wholes = [checkpoints.load_whole(revision.folder) for revision in revisions]
    rolling = Rolling(tmp_path / "loopback", revisions[0])
    try:
        with Processes(tmp_path / "processes") as processes:
            host = cramped_host(rolling, processes, revisions[0])
            yield Stage(rolling, processes, revisions, wholes, host)
    finally:
        rolling.close()


def cramped_host(rolling: Rolling, processes: Processes, served: TinyCheckpoint) -> RoleProcess:
    """It has memory left for sessions, and not for the blocks of a second revision."""
    flags = ("--poll-seconds", "0.5", "--max-threads", "1")
    unlimited = processes.host(rolling.link, "0:4", *flags)
    ready(rolling, unlimited)
    used_bytes = psutil.Process(unlimited.process.pid).memory_info().rss
    inject(unlimited, Fault.TERMINATE)
    rolling.run(until(lambda: unlimited.process.poll() is not None, seconds=20.0))
    limit = used_bytes + bytes_to_host(served.folder, Span(0, 4)) * 3 // 4
    host = processes.host(rolling.link, "0:4", *flags, "--max-memory", str(limit))
    ready(rolling, host)
    return host


def ready(rolling: Rolling, process: RoleProcess) -> Event:
    """The coordinator answers while it starts."""
    rolling.run(
        until(lambda: bool(process.events) or process.process.poll() is not None, seconds=60)
    )
    return process.ready(seconds=1.0)


@dataclass
class Reader:
    """Reads a stream of the gateway in a thread: names of tokens, and who says that he made them."""

    url: str
    names: list[str] = field(default_factory=list)
    revisions: list[str] = field(default_factory=list)
    is_enough: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        with openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=60) as client:
            stream = client.completions.create(
                model="test-run",
                prompt=PROMPT,
                max_tokens=NUM_TOKENS,
                temperature=0,
                stream=True,
                logprobs=0,
                extra_body={"ignore_eos": True},
            )
            for event in stream:
                logprobs = event.choices[0].logprobs
                self.names += (logprobs and logprobs.tokens) or []
                self.revisions.append(event.system_fingerprint or "")
                if self.is_enough.is_set():
                    return


class Chat:
    """`client chat` as a script runs it; what it says lies in two files."""

    def __init__(self, where: tuple[str, ...], folder: Path) -> None:
        folder.mkdir(parents=True)
        self.answers, self.notes = folder / "answers", folder / "notes"
        command = [sys.executable, "-m", "seshu_swarm.client", "chat", *where, "--ignore-end"]
        with self.answers.open("wb") as answers, self.notes.open("wb") as notes:
            self.process = subprocess.Popen(
                [*command, "--max-new-tokens", str(CHAT_TOKENS)],
                stdin=subprocess.PIPE,
                stdout=answers,
                stderr=notes,
            )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def has_said(self, text: str) -> bool:
        return text in self.notes.read_text()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def num_read(text: str, revision: str) -> int:
    """As the one line says it: how many tokens that revision read again."""
    found = re.search(rf"revision {revision[:12]} goes on after reading (\d+) token", text)
    assert found, text
    return int(found[1])


@pytest.fixture
def chat(stage: Stage) -> Iterator[Chat]:
    chat = Chat(stage.where("chat"), stage.processes.folder / "said")
    yield chat
    chat.end()


def test_whoever_was_talking_goes_on(stage: Stage, chat: Chat) -> None:
    """A stream of the official client, `client generate` and `client chat`."""
    rolling, processes = stage.rolling, stage.processes
    flags = ("--http-port", "0", "--follow-seconds", "1", *stage.where("gateway"))
    gateway = processes.start("seshu_swarm.client", "serve", *flags)
    reader = Reader(ready(rolling, gateway)["url"])
    chat.say("one")
    rolling.run(until(lambda: chat.answers.stat().st_size > CHAT_TOKENS, seconds=60))
    wanted = ("--prompt", PROMPT, "--raw", "--ignore-end", "--max-new-tokens", str(NUM_TOKENS))
    user = processes.start("seshu_swarm.client", "generate", *stage.where("user"), *wanted)
    rolling.run(until(lambda: len(user.events) > 10, seconds=60))
    reading = threading.Thread(target=reader.read)
    reading.start()
    rolling.run(until(lambda: len(reader.names) > 40, seconds=60))

    rolling.publish(stage.revisions[1])
    old, new = (revision.revision for revision in stage.revisions)
    rolling.run(until(lambda: reader.revisions[-1] == new, seconds=40))
    rolling.run(until(lambda: any(e["event"] == "rolled" for e in user.events), seconds=40))
    inject(user, Fault.TERMINATE)
    goal = len(reader.names) + NUM_AFTER
    rolling.run(until(lambda: len(reader.names) >= goal, seconds=30))
    reader.is_enough.set()
    rolling.run(asyncio.to_thread(reading.join, 30.0))
    switched = stage.host.wait_for("switched", seconds=1.0)
    assert switched["revision"] == new

    # The stream: no gap, no repetition, and it says by whom it is made from where on.
    expected = stage.expected(num_read(gateway.tail(), new), len(reader.names))
    assert reader.names == [token_text(token) for token in expected]
    assert list(dict.fromkeys(reader.revisions)) == [old, new]
    metrics = httpx2.get(f"{reader.url.removesuffix('/v1')}/metrics").text
    assert "seshu_gateway_rolls_total 1.0" in metrics

    rolling.run(until(lambda: user.process.poll() is not None, seconds=20))
    facts = user.wait_for("generated", seconds=1.0)
    [roll] = facts["rolls"]
    assert (roll["ended"], roll["revision"], facts["revision"]) == (old, new, new)
    assert facts["tokens"] == stage.expected(roll["num_tokens"], len(facts["tokens"]))

    chat.say("two")
    rolling.run(until(lambda: chat.has_said("goes on after"), seconds=60))
    read = question_ids(TOKENISER, "one")
    answers = []
    for whole, question in zip(stage.wholes, ("one", "two"), strict=True):
        read = read if question == "one" else [*read, *question_ids(TOKENISER, question)]
        said = whole.generate_greedy(read, max_new_tokens=CHAT_TOKENS)
        answers.append(TOKENISER.decode(said) + "\n")
        read = [*read, *said, TOKENISER.eos_id]
    assert chat.answers.read_text() == "".join(answers)
