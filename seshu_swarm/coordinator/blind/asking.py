"""The coordinator's side of the scorer: start it, show how far it is, end it in time.

A scorer that fails leaves the round where it was; one that takes too long is ended by name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.coordinator.blind.job import RESULT_FILE, Job, write_job
from seshu_swarm.errors import DeadlineError, SeshuError
from seshu_swarm.program.children import Child, Children, Event
from seshu_swarm.program.progress import Bar

SCORER = "seshu_swarm.coordinator.blind"


class Scorers:
    """Scorer processes, one at a time, in a folder of their own. `seconds` is each one's deadline."""

    def __init__(self, folder: Path, *, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds

    async def ask(self, job: Job, candidates: Mapping[str, Adapter]) -> dict[str, Any]:
        """What the scorer found, as JSON values.

        Raises DeadlineError, and SeshuError with what the scorer said last when it failed.
        """
        folder = self._folder / job.phase
        await asyncio.to_thread(write_job, folder, job, candidates)
        with Bar(f"scoring blind: {job.phase}") as bar:
            children = Children(self._folder / "logs", lambda name, event: _show(bar, event))
            try:
                child = await children.start("scorer", SCORER, ["score", str(folder)])
                await self._end_of(child)
            finally:
                await children.end()
        result: dict[str, Any] = json.loads((folder / RESULT_FILE).read_bytes())
        return result

    async def _end_of(self, child: Child) -> None:
        try:
            await child.wait_for_end(seconds=self._seconds)
        except SeshuError as error:
            if child.process.returncode is not None:
                raise
            raise DeadlineError(
                f"the scorer was not done after {self._seconds:g} s",
                rule="each phase of scoring has a deadline",
                way_out="raise --score-seconds, or lower --score-calls",
            ) from error


def _show(bar: Bar, event: Event) -> None:
    if event["event"] == "progress":
        bar.update(event["fraction"], doing=event.get("doing", ""))
