"""From references to candidates: look up, fetch, read strictly, strip the names.

What leaves here for scoring is a mapping from random ids to adapters; which id belongs to which
donor stays in the ledger until the verdicts are written.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from seshu_swarm import records, references
from seshu_swarm.adapters.reader import Adapter, read_adapter
from seshu_swarm.adapters.rules import AdapterRules
from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.state.ledger import Ledger, Round, Submission
from seshu_swarm.dht import Swarm
from seshu_swarm.errors import PeerError, SeshuError, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.records import AdapterRecord
from seshu_swarm.stores.base import Store
from seshu_swarm.uids import adapter_keys

logger = logging.getLogger(__name__)

FETCHES_AT_ONCE = 8
FETCH_AGAIN = "push the adapter again and keep its holder online"
MAKE_AGAIN = "make the adapter with peer finetune"


class Refused(NamedTuple):
    """Why an adapter takes no part, and what its donor can do."""

    reason: str
    next_step: str


async def look_up(swarm: Swarm, intake: Intake) -> None:
    """Note adapters that were announced in the DHT while their donors could not reach us.

    Adapters for a task stay where they are announced.
    """
    for found in await swarm.lookup(adapter_keys(swarm.run_id), AdapterRecord):
        if found.record.purpose != "merge":
            continue
        try:
            intake.take(found.owner, records.to_bytes(found.record))
        except PeerError as error:
            logger.debug("announced adapter not taken: %s", error)


async def fetch_all(
    ledger: Ledger,
    round_number: int,
    *,
    folder_of: Callable[[str], Path],
    store_of: Callable[[str], Store],
    seconds: float,
) -> dict[str, Refused]:
    """Bring every adapter's files here, several at a time; digest → why one could not be had."""
    gate = asyncio.Semaphore(FETCHES_AT_ONCE)

    async def fetch(submission: Submission) -> tuple[str, Refused | None]:
        async with gate:
            return submission.digest, await _fetch(submission, folder_of, store_of, seconds)

    fetched = await asyncio.gather(*map(fetch, ledger.adapters(round_number)))
    return {digest: refused for digest, refused in fetched if refused is not None}


async def _fetch(
    submission: Submission,
    folder_of: Callable[[str], Path],
    store_of: Callable[[str], Store],
    seconds: float,
) -> Refused | None:
    try:
        reference = references.parse(record_of(submission).reference)
        if reference.digest != submission.digest:
            raise UsageError("the reference pins another package than the record names")
        async with asyncio.timeout(seconds):
            await store_of(reference.scheme).fetch(reference, folder_of(submission.digest))
    except SeshuError as error:
        return _refused(error, FETCH_AGAIN)
    except TimeoutError:
        return Refused(f"NOT_FETCHED: its files were not here after {seconds:g} s", FETCH_AGAIN)
    return None


def record_of(submission: Submission) -> AdapterRecord:
    """The donor's record, as it was handed in."""
    record = records.from_bytes(submission.record)
    if not isinstance(record, AdapterRecord):
        raise UsageError(f"record of type {record.type}")
    return record


def _refused(error: SeshuError, next_step: str) -> Refused:
    reason = "; ".join(part for part in (error.what, error.rule) if part)
    return Refused(reason, error.way_out or next_step)


def refuse(ledger: Ledger, refused: Mapping[str, Refused]) -> None:
    """Write refusals, by digest, into the ledger."""
    for digest, (reason, next_step) in refused.items():
        ledger.judge(digest, state="rejected", reason=reason, gain="", next_step=next_step)


def read_all(
    ledger: Ledger,
    current: Round,
    *,
    shape: MambaShape,
    max_rank: int,
    folder_of: Callable[[str], Path],
) -> dict[str, Adapter]:
    """Digest → adapter, for those that pass the strict reader; the others are rejected by name."""
    rules, adapters = AdapterRules(max_rank=max_rank), dict[str, Adapter]()
    for submission in ledger.adapters(current.number):
        if submission.state != "pending":
            continue
        try:
            adapters[submission.digest] = read_adapter(
                folder_of(submission.digest),
                shape=shape,
                rules=rules,
                digest=submission.digest,
                base_revision=current.parent,
            )
        except SeshuError as error:
            refuse(ledger, {submission.digest: _refused(error, MAKE_AGAIN)})
    return adapters


def read_again(folder: Path, digest: str, shape: MambaShape) -> Adapter:
    """An adapter that passed before, from the bytes that were checked. Raises AdapterError."""
    return read_adapter(folder, shape=shape, rules=AdapterRules(), digest=digest)


def strip_names(digests: list[str], seed: int) -> dict[str, str]:
    """Random id → digest, the same for the same seed: nothing of author or order is left."""
    rng = random.Random(seed)
    shuffled = sorted(digests)
    rng.shuffle(shuffled)
    return {f"{rng.getrandbits(64):016x}": digest for digest in shuffled}


def languages_of(ledger: Ledger, ids: dict[str, str]) -> dict[str, str]:
    """Random id → the language that its donor declared."""
    languages = {}
    for random_id, digest in ids.items():
        submission = ledger.adapter(digest)
        if submission is not None:
            languages[random_id] = record_of(submission).language
    return languages
