"""A run that is trained through its peers, as processes: coordinator, replicas of stages, a trainer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.pipeline.forks import Forks
from seshu_swarm.bench.pipeline.heard import Heard, Step
from seshu_swarm.bench.pipeline.sizes import LANGUAGE, Sizes, fresh_base, write_text
from seshu_swarm.bench.swarm.playing import Stage
from seshu_swarm.bench.swarm.village import PEER, Host, Village, where
from seshu_swarm.program import running
from seshu_swarm.program.children import Child, Children

# A first step may wait for compilers; a later one for whoever was killed.
STEP_SECONDS = 120.0
# No checkpoint is taken while something is measured.
NEVER = 1_000_000


class Town(Village):
    """`start` it, then `train`. `heard`: what its processes said."""

    trainer: Child
    coordinator: Child

    def __init__(
        self,
        folder: Path,
        children: Children,
        sizes: Sizes,
        *,
        heard: Heard,
        settings: BenchConfig,
        replicas: int,
    ) -> None:
        self.sizes, self.heard = sizes, heard
        self.base = fresh_base(folder / "base", sizes, settings.seed)
        self.text = write_text(folder / "text.jsonl", settings.seed)
        super().__init__(
            folder,
            children,
            self.base,
            spans=sizes.spans * replicas,
            links=settings.links,
            seed=settings.seed,
        )

    async def train(self) -> None:
        """A trainer begins. Raises SeshuError."""
        arguments = ["train", "--join", self.link, "--data", str(self.text), "--max-threads", "1"]
        arguments += ["--languages", LANGUAGE, "--seed", str(self._seed)]
        arguments += ["--state-dir", str(self.user_folder), *where(self.user_listen)]
        self.trainer = await self._children.start("trainer", PEER, arguments)

    async def until(self, step: int) -> dict[int, Step]:
        """Until that step is over; all steps so far. Raises SeshuError."""
        while (done := max(self.heard.steps(), default=0)) < step:
            await self.trainer.wait_for(
                "trained-step", seconds=STEP_SECONDS, matching=lambda e: e["step"] > done
            )
        return self.heard.steps()

    def cpu_seconds(self) -> float:
        """Of processors, by everybody so far, the coordinator and all daemons too."""
        everybody = [*(host.child for host in self.hosts), self.coordinator, self.trainer]
        return sum(cpu_seconds(child) for child in everybody)

    def newcomer(self, blocks: str) -> Host:
        """One more replica, which is not started yet."""
        return self._host("newcomer", blocks, self._listens[2])

    async def _coordinate(self) -> Child:
        self.coordinator = await super()._coordinate()
        return self.coordinator

    def _run_flags(self) -> list[str]:
        return self.sizes.run_flags(NEVER)


@asynccontextmanager
async def town(
    stage: Stage,
    sizes: Sizes,
    *,
    replicas: int = 1,
    is_forked: bool = False,
    links: str | None = None,
) -> AsyncIterator[Town]:
    """A run in which a trainer has begun, ended with the block. `is_forked`: peers are forked from a
    process that has imported them. `links`: others than the settings'."""
    folder, heard = stage.new_folder(), Heard()
    kind = Forks if is_forked else Children
    children = kind(folder / "logs", heard.hear)
    try:
        if isinstance(children, Forks):
            await children.open()
        settings = replace(stage.settings, links=links or stage.settings.links)
        built = Town(folder, children, sizes, heard=heard, settings=settings, replicas=replicas)
        await built.start()
        running.settle()
        await built.train()
        yield built
    finally:
        await children.end()


def cpu_seconds(child: Child) -> float:
    """Of processors, by a child and its daemon, so far; 0 of one that is gone."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(child.process.pid)
        for one in (process, *process.children(recursive=True)):
            spent = one.cpu_times()
            total += spent.user + spent.system
    return total
