"""Whom a fetch asks, in which order and how patiently. Knows nothing of files.

Anyone can announce that they hold a package. So few strangers are asked of however many there
are, drawn by lot; a peer that the fetcher knows comes second; and strangers must be quick while
somebody else is left to ask. Who was merely slow is asked again, patiently, when nobody gave.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from seshu_swarm.errors import DeadlineError, DigestError, PeerError, PeerLostError
from seshu_swarm.network.dht import DIAL_SECONDS
from seshu_swarm.stores.base import MIN_BYTES_PER_SECOND

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.0, 0.3, 1.5)
MAX_STRANGERS = 8

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Patience:
    """How long a peer may take to be reached and between chunks, and how slowly it may give."""

    dial_seconds: float
    silent_seconds: float
    bytes_per_second: float


# A chunk of 1 MiB arrives in its time at that rate.
SHORT = Patience(dial_seconds=3.0, silent_seconds=10.0, bytes_per_second=100_000)
LONG = Patience(
    dial_seconds=DIAL_SECONDS, silent_seconds=20.0, bytes_per_second=MIN_BYTES_PER_SECOND
)

Ask = Callable[[str, Patience], Awaitable[Answer]]


class Providers:
    """The peers of one fetch. `hints` are known to the fetcher: they are always asked with `long`.

    What a peer did with one file decides when it is asked for the next: those that failed last.
    """

    def __init__(
        self,
        strangers: Sequence[str],
        hints: Sequence[str] = (),
        *,
        short: Patience = SHORT,
        long: Patience = LONG,
    ) -> None:
        num_asked = min(MAX_STRANGERS, len(strangers))
        # By lot: a peer id can be chosen so that it comes first in any fixed order.
        self._strangers = random.sample(strangers, num_asked)
        self._hints, self._short, self._long = tuple(hints), short, long
        self._failed: set[str] = set()

    def in_turn(self, turn: int) -> list[str]:
        """Another stranger first for each file, so that the load is spread; then the hints."""
        first = turn % len(self._strangers) if self._strangers else 0
        strangers = [*self._strangers[first:], *self._strangers[:first]]
        peers = [*strangers[:1], *self._hints, *strangers[1:]]
        return sorted(peers, key=self._failed.__contains__)

    async def first_answer(self, ask: Ask[Answer], what: str, *, turn: int = 0) -> Answer:
        """Ask one peer after another; those whose stream broke are asked again after a while.

        libp2p resets streams when it drops the second of two connections that two peers opened to
        each other at once, which happens just when a peer joins. Raises PeerLostError.
        """
        failures, left = [], self.in_turn(turn)
        for attempt, wait_seconds in enumerate(RETRY_SECONDS):
            await asyncio.sleep(wait_seconds)
            for peer in list(left):
                is_last = attempt > 0 or peer == left[-1]
                patience = self._long if is_last or peer in self._hints else self._short
                try:
                    return await ask(peer, patience)
                except (PeerError, DigestError) as error:
                    logger.debug("%s: %s", what, error)
                    failures.append(str(error))
                    self._failed.add(peer)
                    if not _may_be_asked_again(error, patience, self._long):
                        left.remove(peer)
        raise PeerLostError(
            f"no provider gave {what}: {'; '.join(failures) or 'none known'}",
            rule="at least one peer that holds it must be reachable",
            way_out="try again in a minute; the transfer goes on where it stopped",
        )


def _may_be_asked_again(error: Exception, patience: Patience, long: Patience) -> bool:
    match error:
        case PeerLostError():
            return True
        case DeadlineError():
            return patience != long
        case _:
            return False


async def all_of(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of them at once; where one fails, the others are ended first."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
