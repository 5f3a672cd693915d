"""When a session's revision has ended: nobody serves it any more, and the run has a newer one.

A peer keeps an old revision while sessions need it and its memory allows; then it says so, and its
record names the new one only. Knows neither sessions nor the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from seshu_swarm.client.chain.routing import Offer, choose_chain
from seshu_swarm.errors import PeerError, PeerLostError, RefusalError, RevisionRetiredError
from seshu_swarm.records.kinds import RunRecord, SpanRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.spans import Span, coverage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Newest:
    """The run's newest revision; `is_served`: whether every block of it has a peer."""

    revision: str
    is_served: bool


FindNewest = Callable[[], Awaitable[Newest | None]]


def has_ended(pinned: str, newest: Newest | None, *, is_told: bool, is_late: bool) -> bool:
    """Whether a revision of which a block lacks a peer will not come back. Pure.

    It may when its peers only move or pause; so somebody must have said that it ends (`is_told`), its
    successor must be served, or the wait for its peers be over (`is_late`).
    """
    if newest is None or newest.revision == pinned:
        return False
    return is_told or is_late or newest.is_served


class Retirement:
    """What one session knows about the end of its revision. `find_newest` None: it does not end."""

    def __init__(self, revision: str, find_newest: FindNewest | None) -> None:
        self._revision, self._find_newest = revision, find_newest
        self._is_told = False

    def told(self) -> None:
        """A peer of the session gives its revision up."""
        self._is_told = True

    def note(self, error: PeerError) -> None:
        """Why a peer was lost: those that have given the revision up refuse it by name."""
        if isinstance(error, RefusalError) and error.name == "REVISION_MISMATCH":
            self.told()

    async def check(self, offers: list[Offer], span: Span, *, is_late: bool) -> None:
        """No chain over `span` was found. Raises RevisionRetiredError when none will be."""
        if self._find_newest is None or (not is_late and covers(offers, span)):
            return  # peers that were lost, and may be tried again
        try:
            newest = await self._find_newest()
        except PeerError as error:
            logger.info("looking for the newest revision: %s", error)
            return
        if newest and has_ended(self._revision, newest, is_told=self._is_told, is_late=is_late):
            raise RevisionRetiredError(self._revision, newest.revision)


def covers(offers: list[Offer], span: Span) -> bool:
    """Whether peers say that they have all these blocks."""
    try:
        return bool(choose_chain(offers, span))
    except PeerLostError:
        return False


async def newest_of(joined: Joined) -> Newest | None:
    """As the run's record and its peers' say now. Raises DeadlineError."""
    found = await joined.swarm.current_run(joined.link)
    if found is None:
        return None
    missing = await missing_blocks(joined, found.record.revision)
    return Newest(found.record.revision, is_served=not missing)


async def missing_blocks(joined: Joined, revision: str) -> tuple[int, ...]:
    """Blocks of the revision that no peer serves now."""
    run: RunRecord = joined.run
    found = await joined.swarm.spans(run.num_blocks)
    spans = [Span(f.record.start, f.record.end) for f in found if is_usable(f.record, revision)]
    covered = coverage(spans, run.num_blocks)
    return tuple(block for block, num_peers in enumerate(covered) if not num_peers)


def is_usable(record: SpanRecord, revision: str) -> bool:
    """Whether new sessions of the revision can be opened there."""
    return revision in record.revisions and not record.is_draining and not record.paused
