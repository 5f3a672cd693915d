"""`client chat`: talk with the model in the terminal, or line by line from a script.

The commands begin with a slash. In a terminal a failure is said and the talk goes on; a script
ends at the first one with its exit code.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from seshu_swarm.client.config import ChatConfig
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.client.terminal import lines
from seshu_swarm.client.terminal.lines import Interrupts, note, note_roll
from seshu_swarm.client.terminal.talk import Talk
from seshu_swarm.errors import SeshuError, UsageError
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import join

HELP = "/reset forgets everything, /save PATH and /load PATH keep a talk, /quit leaves"


def run(settings: ChatConfig) -> int:
    with lines.as_before():
        return running.run(lambda stop: chat(settings, stop))


async def chat(settings: ChatConfig, stop: Stop) -> int:
    joined = await join(settings)
    try:
        model = await RemoteModel.connect(joined)
        run_id, revision = joined.run.run_id, model.revision
        if lines.is_terminal() or not log.is_text():
            text = f"ready {run_id}, revision {revision[:12]}; {HELP}"
            log.event("ready", text, run=run_id, revision=revision)
        talk = Talk(model, settings)
        try:
            await _Loop(talk).run()
        finally:
            await talk.close()
    finally:
        await joined.swarm.leave()
    return 0


class _Loop:
    """Lines in, answers out, until the end of the lines, /quit or a second Ctrl-C."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._is_answering = False
        self._num_said = (0, 0)  # recoveries and rolls
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "/reset": self._reset,
            "/save": self._save,
            "/load": self._load,
        }

    async def run(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # a coroutine that runs is in a task
        interrupts = Interrupts(lambda: self._interrupted(task), lambda: _leave(task))
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupts)
        while True:
            try:
                line = await lines.read_line()
                interrupts.reset()
                if line is None or line.strip() == "/quit":
                    return
                try:
                    await self._do(line.strip())
                finally:
                    self._say_news()
            except SeshuError as error:
                if not lines.is_terminal():
                    raise
                print(f"error: {error}", file=sys.stderr)

    def _interrupted(self, task: asyncio.Task[Any]) -> None:
        if self._is_answering:
            self._talk.interrupt()
        elif lines.is_terminal():
            note("waiting", "press Ctrl-C again or type /quit to leave")
        else:
            _leave(task)

    async def _do(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word in self._commands:
            await self._commands[word](rest.strip())
        elif word.startswith("/"):
            raise UsageError(f"{word[:40]} is no command", rule=f"{HELP}")
        elif line:
            await self._answer(line)

    async def _answer(self, question: str) -> None:
        began, pieces = time.perf_counter(), list[str]()
        self._is_answering = True
        try:
            async for text in self._talk.answer(question):
                pieces.append(text)
                if log.is_text():
                    sys.stdout.write(text)
                    sys.stdout.flush()
        finally:
            self._is_answering = False
            if log.is_text():
                sys.stdout.write("\n")
                sys.stdout.flush()
        self._say_answered("".join(pieces), time.perf_counter() - began)

    def _say_news(self) -> None:
        """What happened to the peers since this was asked last."""
        recoveries, rolls = self._talk.recoveries, self._talk.rolls
        for lost in recoveries[self._num_said[0] :]:
            note("replaced", f"a peer was replaced: {lost}")
        for roll in rolls[self._num_said[1] :]:
            note_roll(roll)
        self._num_said = len(recoveries), len(rolls)

    def _say_answered(self, answer: str, seconds: float) -> None:
        if not log.is_text():
            talk = self._talk
            facts = {"tokens": talk.num_tokens, "seconds": seconds, "position": talk.position}
            log.event("answered", answer, **facts)

    async def _reset(self, rest: str) -> None:
        await self._talk.reset()
        note("reset", "everything is forgotten")

    async def _save(self, rest: str) -> None:
        path = _path_of("/save", rest)
        await self._talk.save(path)
        note("saved", f"saved in {path}", path=str(path))

    async def _load(self, rest: str) -> None:
        path = _path_of("/load", rest)
        await self._talk.load(path)
        note("loaded", f"going on from {path}", path=str(path))


def _leave(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _path_of(command: str, rest: str) -> Path:
    if not rest:
        raise UsageError(f"{command} without a path", way_out=f"{command} talk.safetensors")
    return Path(rest).expanduser()
