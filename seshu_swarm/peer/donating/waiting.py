"""From an adapter's record to the coordinator's word on it: hand in until it is taken, then ask.

A coordinator that is away, or between rounds, is waited for; any other no ends the wait.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Iterator

from seshu_swarm.errors import DeadlineError, PeerError, RefusalError
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating.handing_in import ask_verdict, submit
from seshu_swarm.peer.donating.verdicts import (
    NO_GAIN_KNOWN,
    Word,
    next_step,
    passes_by_itself,
    with_next_step,
    word_of_verdict,
)
from seshu_swarm.program import log
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import AdapterRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.streams.protocol import Verdict

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
GROWTH = 1.1
JITTER = 0.2
RENEW_SECONDS = 3_600.0  # a record lives a day
STOPPED = Word("none", "stopped while waiting", NO_GAIN_KNOWN, "the same command goes on waiting")
NO_WORD = Word("none", "no verdict yet", NO_GAIN_KNOWN, "nothing: it stays announced for a day")


async def await_word(
    joined: Joined, record: AdapterRecord, settings: FinetuneConfig, stop: Stop
) -> Word:
    """Raises RefusalError with its next step, or DeadlineError unless the donor follows."""
    desk = _Desk(joined, record)
    deadline = time.monotonic() + settings.wait_seconds
    for pause_seconds in pauses(random.Random()):
        verdict = await desk.ask()
        if verdict is not None and verdict.state in ("accepted", "rejected"):
            return word_of_verdict(verdict)
        if time.monotonic() > deadline and settings.follow:
            return NO_WORD
        if time.monotonic() > deadline:
            raise DeadlineError(
                f"no verdict after {settings.wait_seconds:g} s",
                rule="verdicts come when the round closes",
                way_out="the adapter is kept: start the same command again, with a longer "
                "--wait-seconds",
            )
        if not await stop.sleep(pause_seconds):
            break
    return STOPPED


def pauses(chance: random.Random) -> Iterator[float]:
    """Seconds between questions, for ever: longer and longer, and no two donors' alike."""
    for i in itertools.count():
        seconds = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * GROWTH ** min(i, 100))
        yield seconds * chance.uniform(1 - JITTER, 1)


class _Desk:
    """The coordinator's desk as one donor knows it, with one adapter."""

    def __init__(self, joined: Joined, record: AdapterRecord) -> None:
        self._joined, self._record = joined, record
        self._is_handed_in = False
        self._announced_at: float | None = None
        self._said: set[str] = set()

    async def ask(self) -> Verdict | None:
        """Hand in, or ask for the verdict; None when it is to be tried again."""
        try:
            verdict = await self._ask()
        except RefusalError as error:
            if not passes_by_itself(error, is_known=self._is_handed_in):
                raise with_next_step(error) from None
            text = f"waiting: {error}; next: {next_step(error)}"
            self._say("waiting", text, refusal=error.name)
            return None
        if verdict is not None:
            # Unknown: the first submission was lost on the way.
            self._is_handed_in = verdict.state != "unknown"
        if self._is_handed_in:
            self._say("handed-in", f"handed in {self._record.reference}")
        # Handed in before it is announced: whoever reads the DHT comes too late to claim it.
        await self._announce()
        return verdict

    async def _ask(self) -> Verdict | None:
        if self._is_handed_in:
            return await ask_verdict(self._joined, self._record.digest)
        return await submit(self._joined, self._record)

    async def _announce(self) -> None:
        """Once, and again each hour; what the DHT does not take now it is given the next time."""
        now = time.monotonic()
        if self._announced_at is not None and now - self._announced_at < RENEW_SECONDS:
            return
        try:
            await self._joined.swarm.announce(self._record)
            self._announced_at = now
        except PeerError as error:
            logger.warning("not announced, tried again: %s", error)

    def _say(self, event: str, text: str, **facts: str) -> None:
        """Each thing once, however often it is asked."""
        if event not in self._said:
            self._said.add(event)
            log.event(event, text, reference=self._record.reference, **facts)
