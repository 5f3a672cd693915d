"""`coordinator record`: from a folder of text to a set of adapters with verdicts, resumable.

Starts processes, shows how far they are, ends every one of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from seshu_swarm.coordinator.research.config import RecordConfig
from seshu_swarm.coordinator.research.recording.finish import tidy, write_card
from seshu_swarm.coordinator.research.recording.notes import NOTES_FILE, Notes
from seshu_swarm.coordinator.research.recording.story import Story
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import EXIT_INTERRUPTED, UsageError
from seshu_swarm.program import log, running
from seshu_swarm.program.children import Children
from seshu_swarm.program.progress import Bar
from seshu_swarm.program.running import Stop

WORK = "working"
GRACE_SECONDS = 4.0  # children are asked first, and what is done is noted


def run(settings: RecordConfig) -> int:
    folder = settings.out_path
    if folder.exists() and any(folder.iterdir()) and not (folder / NOTES_FILE).exists():
        raise UsageError(
            f"{folder} holds something else",
            rule="a recording begins in a new folder, or goes on where one was begun",
            way_out="name a new folder with --out",
        )
    return running.run(lambda stop: record(settings, stop))


async def record(settings: RecordConfig, stop: Stop) -> int:
    stop.grace_seconds = GRACE_SECONDS
    folder, work = RunFolder(settings.out_path), settings.out_path / WORK
    notes = Notes(folder.path, settings.facts)
    notes.write()
    if not settings.verbose:
        # What the processes do is told by the bar.
        logging.getLogger("seshu_swarm").setLevel(logging.WARNING)
    with Bar("recording") as bar:
        children = Children(work / "logs", lambda name, event: story.hear(name, event))
        story = Story(
            settings,
            work,
            notes,
            children,
            lambda fraction, doing: bar.update(fraction, doing=doing),
        )
        try:
            is_whole = await _until_stopped(story.tell(), stop)
        finally:
            await children.end()
    if not is_whole:
        log.event("stopped", "stopped; the same command goes on from here")
        return EXIT_INTERRUPTED
    tidy(folder, work)
    write_card(folder, notes, settings)
    _tell(folder)
    return 0


def _tell(folder: RunFolder) -> None:
    ledger = Ledger(folder.ledger)
    rounds = ledger.rounds()
    states = Counter(a.state for r in rounds for a in ledger.adapters(r.number))
    published = sum(found.revision is not None for found in rounds)
    text = (
        f"recorded {sum(states.values())} adapters in {len(rounds)} rounds, {published} of them "
        f"published; {states['accepted']} adapters accepted, {states['rejected']} rejected: "
        f"{folder.path}"
    )
    log.event("recorded", text, rounds=len(rounds), published=published, **states)


async def _until_stopped(telling: Coroutine[Any, Any, None], stop: Stop) -> bool:
    """False if it was stopped before the end."""
    story, stopping = asyncio.create_task(telling), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({story, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if story.done():
            await story
        return story.done()
    finally:
        stopping.cancel()
        story.cancel()
