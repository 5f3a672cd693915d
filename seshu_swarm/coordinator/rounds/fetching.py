"""Bring adapters' files here before they are read: several at a time, within the phase's deadline.

What lies here already comes first, as most honest donors push before they hand in; so references
that hang keep nobody waiting but one another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from seshu_swarm.coordinator.rounds.gather import Refused, record_of, refused_of
from seshu_swarm.coordinator.rounds.states import NOT_FETCHED
from seshu_swarm.coordinator.state.ledger import Ledger, Submission
from seshu_swarm.errors import SeshuError, UsageError
from seshu_swarm.packages import MANIFEST
from seshu_swarm.stores import references
from seshu_swarm.stores.base import Store, drop_partials

FETCHES_AT_ONCE = 16
SHARE_OF_PHASE = 0.25  # of the phase's time, for one adapter
FETCH_AGAIN = "push the adapter again and keep its holder online"

StoreOf = Callable[[str], Store]
FolderOf = Callable[[str], Path]


async def fetch_all(
    ledger: Ledger,
    round_number: int,
    *,
    folder_of: FolderOf,
    store_of: StoreOf,
    seconds: float,
) -> dict[str, Refused]:
    """Digest → why its files could not be had; the others lie in their folders. Takes `seconds`."""
    gate = asyncio.Semaphore(FETCHES_AT_ONCE)
    deadline = time.monotonic() + seconds

    async def fetch(one: Submission) -> tuple[str, Refused | None]:
        async with gate:
            left = min(SHARE_OF_PHASE * seconds, deadline - time.monotonic())
            return one.digest, await _fetch(one, folder_of, store_of, left)

    waiting = sorted(
        ledger.adapters(round_number),
        key=lambda one: not (folder_of(one.digest) / MANIFEST).is_file(),
    )
    fetched = await asyncio.gather(*map(fetch, waiting))
    return {digest: refused for digest, refused in fetched if refused is not None}


async def _fetch(
    submission: Submission, folder_of: FolderOf, store_of: StoreOf, seconds: float
) -> Refused | None:
    folder = folder_of(submission.digest)
    try:
        reference = references.parse(record_of(submission).reference)
        if reference.digest != submission.digest:
            raise UsageError("the reference pins another package than the record names")
        async with asyncio.timeout(seconds):
            await store_of(reference.scheme).fetch(reference, folder)
    except SeshuError as error:
        refused = refused_of(error, FETCH_AGAIN, folder)
    except TimeoutError:
        refused = Refused(f"{NOT_FETCHED}: its files were not here in time", FETCH_AGAIN)
    else:
        return None
    # Nobody goes on with it: an adapter that is pushed again comes whole.
    drop_partials(folder)
    return refused
