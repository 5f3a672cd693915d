"""The four paths of docs/, as a reader types them: one swarm, every command, the output that is shown.

Commands are taken from the pages word for word. Only the join link and the gateway's port are the
test's own: a page cannot know them. Whatever does not end by itself is left running until `ready`.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.forked import FOLDER
from tests.swarms import start
from tests.test_docs import FENCE, read

pytestmark = pytest.mark.swarm

LASTS = ("coordinator run ", "peer host ", "client serve ")
READY = re.compile(r"^ready .*$", flags=re.MULTILINE)
READY_SECONDS, COMMAND_SECONDS, END_SECONDS = 60.0, 120.0, 15.0
CUT = "…"  # in a page: something was left out


@dataclass(frozen=True)
class Shown:
    """A command of a page, and the lines that the page shows below it."""

    page: str
    command: str
    output: tuple[str, ...]


def shown_on(page: str) -> list[Shown]:
    """The page's `console` blocks, one command each."""
    found = []
    for kind, body in FENCE.findall(read(f"docs/{page}.md")):
        if kind == "console":
            first, *rest = body.replace("\\\n", " ").splitlines()
            assert first.startswith("$ "), f"{page}: {first}"
            assert not [line for line in rest if line.startswith("$ ")], f"{page}: two in a block"
            found.append(Shown(page, first.removeprefix("$ "), tuple(rest)))
    return found


def pattern(line: str) -> str:
    """A line as it is on every machine: other numbers, digests and ids; columns of other widths."""
    return "".join(
        r"\s*" if part.isspace() else r".*" if part[:1] == CUT else alike(part)
        for part in re.split(rf"(\s+|{CUT}\w*|[│┃])", line.strip())
    )


def alike(part: str) -> str:
    """A pattern for one word of a line."""
    kinds = {r"Qm\w+|[0-9a-f]{8,}": r"\w+", r"[-+]?\d[\d.,:e+]*": r"[-+\d.,:e]+"}
    # One group a kind, none within, so that the last group's number is the kind's.
    either = "|".join(f"({kind})" for kind in kinds)
    pieces, end = [], 0
    for found in re.finditer(either, part):
        pieces += [
            re.escape(part[end : found.start()]),
            [*kinds.values()][(found.lastindex or 1) - 1],
        ]
        end = found.end()
    return "".join(pieces) + re.escape(part[end:])


class Typed:
    """A command that was typed: what it says, while it says it."""

    def __init__(self, words: list[str], log: Path) -> None:
        assert words[:2] == ["python", "-m"], words
        self.log, self._said = log, list[str]()
        self.process = start(words[2], words[3:], log)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self._said.extend(line.decode() for line in lines)

    @property
    def said(self) -> str:
        return "".join(self._said)

    def errors(self) -> str:
        return self.said[-2_000:] + self.log.read_text(errors="replace")[-2_000:]

    def wait(self, seconds: float) -> int:
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code


class Terminals:
    """Terminals of one reader, all in one folder."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.link = folder, ""
        self._port = str(port)
        self._typed: list[tuple[str, Typed]] = []

    def type(self, shown: Shown) -> str:
        """Run a command; what it said. Fails where it fails."""
        words = [word.replace("$LINK", self.link) for word in shlex.split(shown.command)]
        words = [word.replace("8000", self._port) for word in words]
        if words[0] == "curl":
            return subprocess.check_output(words, text=True, timeout=COMMAND_SECONDS)
        typed = Typed(words, self.folder / f"{len(self._typed)}.log")
        self._typed.append((shown.command, typed))
        if any(last in shown.command for last in LASTS):
            return self._until_ready(typed)
        assert typed.wait(COMMAND_SECONDS) == 0, f"{shown.command}\n{typed.errors()}"
        return typed.said

    def _until_ready(self, typed: Typed) -> str:
        deadline = time.monotonic() + READY_SECONDS
        while not (ready := READY.search(typed.said)):
            assert typed.process.poll() is None, typed.errors()
            assert time.monotonic() < deadline, f"not ready: {typed.errors()}"
            time.sleep(0.02)
        if link := re.search(r"seshu://\S+", ready[0]):
            self.link = link[0]
        return typed.said

    def interrupt(self, words: str) -> None:
        """Ctrl-C, where such a command runs."""
        (typed,) = [typed for command, typed in self._typed if words in command]
        typed.process.send_signal(signal.SIGINT)
        typed.wait(END_SECONDS)

    def close(self) -> None:
        for _, typed in self._typed:
            typed.process.terminate()
        for _, typed in self._typed:
            try:
                typed.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                typed.process.kill()
                typed.wait(END_SECONDS)


@pytest.fixture(scope="module")
def played(
    tmp_path_factory: pytest.TempPathFactory, gateway_port: int
) -> Iterator[dict[Shown, str]]:
    """Every command of the four pages with what it said, in the order in which the pages say."""
    folder = tmp_path_factory.mktemp("paths")
    terminals = Terminals(folder, gateway_port)
    told: dict[Shown, str] = {}
    maintainer = shown_on("maintainer")
    after = next(i for i, one in enumerate(maintainer) if " round 1 " in one.command)
    donor_and_user = (*shown_on("donor"), *shown_on("user"))
    with pytest.MonkeyPatch.context() as patch:
        # As in a terminal of eighty columns, for which the pages' tables are.
        for name, value in {FOLDER: str(folder), "COLUMNS": "80"}.items():
            patch.setenv(name, value)
        try:
            for shown in (*maintainer[:after], *donor_and_user, *maintainer[after:]):
                told[shown] = terminals.type(shown)
            terminals.interrupt("coordinator run ")
            (folder / "all_in.py").write_text(policy_of("researcher"))
            for shown in shown_on("researcher"):
                told[shown] = terminals.type(shown)
            yield told
        finally:
            terminals.close()


@pytest.fixture(scope="module")
def gateway_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def policy_of(page: str) -> str:
    blocks: list[tuple[str, str]] = FENCE.findall(read(f"docs/{page}.md"))
    (body,) = [body for kind, body in blocks if kind == "python"]
    return body


def of(played: dict[Shown, str], words: str) -> str:
    (said,) = [said for shown, said in played.items() if words in shown.command]
    return said


@pytest.mark.parametrize("page", ["maintainer", "donor", "user", "researcher"])
def test_a_page_shows_what_its_commands_say(played: dict[Shown, str], page: str) -> None:
    shown = [one for one in played if one.page == page]
    assert any(one.output for one in shown)
    for one in shown:
        for line in one.output:
            if line.strip(" …") and not re.fullmatch(r"[\s━─┏┓┗┛┡┩┳┻╇┴┬└┘├┤┼╰╯╭╮]+", line):
                said = played[one].splitlines()
                found = any(re.fullmatch(pattern(line), other.strip()) for other in said)
                assert found, f"{one.command}\nshows {line!r}\nand said\n{played[one]}"


def test_the_maintainer_s_path_ends_with_a_checkpoint_that_is_proven(
    played: dict[Shown, str],
) -> None:
    assert "round 1 published" in of(played, " round 1 ")
    assert "round 1 verified" in of(played, " verify 1 ")


def test_the_donor_s_path_ends_with_a_contribution(played: dict[Shown, str]) -> None:
    assert re.search(r"^accepted: MERGED", of(played, " finetune "), flags=re.MULTILINE)


def test_the_user_s_path_ends_with_answers(played: dict[Shown, str]) -> None:
    assert "tokens/s over" in of(played, " generate ")
    assert json.loads(of(played, "/health"))["status"] == "ok"
    assert json.loads(of(played, "/v1/completions"))["usage"]["completion_tokens"] == 8


def test_the_researcher_s_path_ends_with_a_rule_judged(played: dict[Shown, str]) -> None:
    assert "all_in: published; task_arithmetic, λ 1" in of(played, " simulate ")


def test_a_page_that_tells_something_else_would_be_noticed() -> None:
    line = "│ hi       │ 1.4475               │ 1.2448 │ -0.2027 │"
    assert re.search(pattern(line), "│ hi  │ 1.5 │ 12.8 │ -0.1 │")
    assert not re.search(pattern(line), "│ ta  │ 1.5 │ 12.8 │ -0.1 │")
    assert re.search(
        pattern("ready hosting blocks 0:2 as peer Qmd6xm…"), "ready hosting blocks 2:4 as peer QmX"
    )
    assert not re.search(pattern("round 1 published: …"), "round 1 aborted: no gain")
    assert re.search(pattern("first@87acdcb0d09d …9qFb4X]"), "first@01ab23cd45ef Qm5T]")
