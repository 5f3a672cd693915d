"""`python -m seshu_swarm demo`: start, show, end every process, tell how it went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console

from seshu_swarm.demo import outcome
from seshu_swarm.demo.board import Board
from seshu_swarm.demo.config import DemoConfig
from seshu_swarm.demo.story import Story, Told, phases
from seshu_swarm.errors import EXIT_INTERRUPTED, UsageError, from_os_error
from seshu_swarm.program import log, running
from seshu_swarm.program.children import Children
from seshu_swarm.program.running import Stop


def run(settings: DemoConfig) -> int:
    folder = _folder(settings)
    return running.run(lambda stop: play(settings, folder, stop))


def _folder(settings: DemoConfig) -> Path:
    """A new folder: a demo never mixes with an older one."""
    if settings.folder:
        path = Path(settings.folder).expanduser().absolute()
        if path.exists() and any(path.iterdir()):
            raise UsageError(
                f"{path} is not empty", rule="a demo starts afresh", way_out="name a new folder"
            )
    else:
        runs = Path("runs").absolute()
        numbers = [int(p.name[5:]) for p in runs.glob("demo-*") if p.name[5:].isdecimal()]
        path = runs / f"demo-{max(numbers, default=0) + 1:03d}"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, str(path)) from error
    return path


async def play(settings: DemoConfig, folder: Path, stop: Stop) -> int:
    console = Console(stderr=not log.is_text())
    if not settings.verbose:
        # The story is told by events; the engine's own notes would tear the display.
        logging.getLogger("seshu_swarm").setLevel(logging.WARNING)
    console.print(
        f"Seshu demo in {folder}; to follow the logs: tail -F {folder}/logs/*.log", soft_wrap=True
    )
    board = Board(phases(settings), console)
    children = Children(folder / "logs", board.hear)
    try:
        with board:
            told = await _until_stopped(Story(settings, folder, board, children).tell(), stop)
    finally:
        await children.end()
    if told is None:
        console.print("stopped; every process has ended")
        return EXIT_INTERRUPTED
    outcome.show(told, board.seconds, console)
    if not log.is_text():
        log.event("demo", "", **outcome.results_of(told, board.seconds))
    if settings.report:
        outcome.report(settings, told, board.seconds, Path(settings.report))
    outcome.must_agree(told)
    return 0


async def _until_stopped(telling: Coroutine[Any, Any, Told], stop: Stop) -> Told | None:
    story = asyncio.create_task(telling)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({story, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await story if story.done() else None
    finally:
        stopping.cancel()
        story.cancel()
