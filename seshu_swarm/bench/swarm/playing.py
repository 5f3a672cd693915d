"""One event loop for a bench of a swarm: it shows progress, heeds Ctrl-C, leaves no process behind."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import torch

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.swarm.model import RandomModel
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.bench.swarm.village import Village
from seshu_swarm.errors import EXIT_INTERRUPTED
from seshu_swarm.program import running
from seshu_swarm.program.children import Children, Event
from seshu_swarm.program.progress import Bar
from seshu_swarm.program.running import Stop


class Stage:
    """What a bench plays on: its settings, a folder, processes, a bar of `num_steps` steps."""

    def __init__(self, settings: BenchConfig, folder: Path, bar: Bar, num_steps: int) -> None:
        self.settings = settings
        self._folder, self._bar, self._num_steps = folder, bar, num_steps
        self._num_done = 0
        self._num_villages = 0

    def step(self, now: str) -> None:
        """The next step begins."""
        self._bar.update(min(1.0, self._num_done / self._num_steps), now=now)
        self._num_done += 1

    @asynccontextmanager
    async def village(
        self, model: RandomModel, spans: Sequence[str]
    ) -> AsyncIterator[tuple[Village, User]]:
        """A swarm and its client, ended with the block."""
        folder = self.new_folder()
        children = Children(folder / "logs", _unheard)
        settings = self.settings
        village = Village(
            folder, children, model, spans=spans, links=settings.links, seed=settings.seed
        )
        try:
            await village.start()
            user = await User.enter(village)
            try:
                running.settle()
                yield village, user
            finally:
                await user.leave()
        finally:
            await children.end()

    def new_folder(self) -> Path:
        """Of one more swarm."""
        self._num_villages += 1
        return self._folder / f"village-{self._num_villages}"

    def model(self, *, d_model: int, num_blocks: int) -> RandomModel:
        folder = self._folder / f"model-{d_model}x{num_blocks}"
        seed = self.settings.seed
        return RandomModel.write(folder, d_model=d_model, num_blocks=num_blocks, seed=seed)

    def model_after(self, before: RandomModel, number: int) -> RandomModel:
        """Other weights in the same shape, as the `number`th revision after a first one."""
        return RandomModel.write(
            self._folder / f"{before.folder.name}-{number}",
            d_model=before.shape.d_model,
            num_blocks=before.shape.num_blocks,
            seed=self.settings.seed + number,
            parent=before.revision,
        )


Story = Callable[[Stage], Awaitable[Outcome]]


def play(settings: BenchConfig, story: Story, *, num_steps: int) -> Outcome:
    """Run a bench's story. Raises KeyboardInterrupt when it is stopped, SeshuError."""
    torch.set_num_threads(1)
    if not settings.verbose:
        # Peers are killed on purpose: what the client says about it is no news.
        logging.getLogger("seshu_swarm").setLevel(logging.ERROR)
    outcomes: list[Outcome] = []

    async def main(stop: Stop) -> int:
        with _new_folder() as folder, Bar("bench") as bar:
            stage = Stage(settings, Path(folder), bar, num_steps)
            outcomes.extend(await _until_stopped(story(stage), stop))
            bar.update(1.0)
        return 0 if outcomes else EXIT_INTERRUPTED

    running.run(main)
    if not outcomes:
        raise KeyboardInterrupt
    return outcomes[0]


def _new_folder() -> tempfile.TemporaryDirectory[str]:
    # A process that was just killed may still be writing its last lines.
    return tempfile.TemporaryDirectory(prefix="seshu-bench-", ignore_cleanup_errors=True)


async def _until_stopped(story: Awaitable[Outcome], stop: Stop) -> list[Outcome]:
    """The story's outcome; none when it was stopped before its end."""
    telling = asyncio.ensure_future(story)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({telling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return [telling.result()] if telling.done() else []
    finally:
        stopping.cancel()
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


def _unheard(name: str, event: Event) -> None:
    """Children are listened to by those who wait for them."""
