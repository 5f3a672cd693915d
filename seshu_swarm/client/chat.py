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

from seshu_swarm import log, running
from seshu_swarm.client import terminal
from seshu_swarm.client.config import ChatConfig
from seshu_swarm.client.remote import RemoteModel
from seshu_swarm.client.talk import Talk
from seshu_swarm.client.terminal import Interrupts
from seshu_swarm.errors import SeshuError, UsageError
from seshu_swarm.joining import join
from seshu_swarm.running import Stop

HELP = "/reset forgets everything, /save PATH and /load PATH keep a talk, /quit leaves"


def run(settings: ChatConfig) -> int:
    with terminal.as_before():
        return running.run(lambda stop: chat(settings, stop))


async def chat(settings: ChatConfig, stop: Stop) -> int:
    joined = await join(settings)
    try:
        model = await RemoteModel.connect(joined)
        run_id, revision = joined.run.run_id, model.revision
        if terminal.is_terminal() or not log.is_text():
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
                line = await terminal.read_line()
                interrupts.reset()
                if line is None or line.strip() == "/quit":
                    return
                await self._do(line.strip())
            except SeshuError as error:
                if not terminal.is_terminal():
                    raise
                print(f"error: {error}", file=sys.stderr)

    def _interrupted(self, task: asyncio.Task[Any]) -> None:
        if self._is_answering:
            self._talk.interrupt()
        elif terminal.is_terminal():
            _note("waiting", "press Ctrl-C again or type /quit to leave")
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
        before, began = len(self._talk.recoveries), time.perf_counter()
        pieces: list[str] = []
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
            replaced = self._talk.recoveries[before:]
        self._say_answered("".join(pieces), time.perf_counter() - began)
        for lost in replaced:
            _note("replaced", f"a peer was replaced: {lost}")

    def _say_answered(self, answer: str, seconds: float) -> None:
        if not log.is_text():
            talk = self._talk
            facts = {"tokens": talk.num_tokens, "seconds": seconds, "position": talk.position}
            log.event("answered", answer, **facts)

    async def _reset(self, rest: str) -> None:
        await self._talk.reset()
        _note("reset", "everything is forgotten")

    async def _save(self, rest: str) -> None:
        path = _path_of("/save", rest)
        await self._talk.save(path)
        _note("saved", f"saved in {path}", path=str(path))

    async def _load(self, rest: str) -> None:
        path = _path_of("/load", rest)
        await self._talk.load(path)
        _note("loaded", f"going on from {path}", path=str(path))


def _leave(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _path_of(command: str, rest: str) -> Path:
    if not rest:
        raise UsageError(f"{command} without a path", way_out=f"{command} talk.safetensors")
    return Path(rest).expanduser()


def _note(name: str, text: str, **facts: Any) -> None:
    """Beside the talk: a script's answers stay alone on standard output."""
    if log.is_text():
        print(f"[{text}]", file=sys.stderr, flush=True)
    else:
        log.event(name, text, **facts)
