"""From references to candidates: look up, fetch, read strictly, strip the names.

What leaves here for scoring is a mapping from random ids to adapters; which id belongs to which
donor stays in the ledger until the verdicts are written.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from seshu_swarm.adapters.reader import Adapter, read_adapter
from seshu_swarm.adapters.rules import AdapterRules
from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.rounds.states import CROWDED, NOT_FETCHED
from seshu_swarm.coordinator.state.ledger import Ledger, Round, Submission
from seshu_swarm.errors import PeerError, ResourceError, SeshuError, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.network.dht import Swarm
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord
from seshu_swarm.records.uids import adapter_keys

logger = logging.getLogger(__name__)

NO_HOLDER = f"{NOT_FETCHED}: no holder gave it"
MAKE_AGAIN = "make the adapter with peer finetune"
RETURN = "hand it in again in the next round"


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
            intake.take(found.owner, record_bytes.to_bytes(found.record))
        except PeerError as error:
            logger.debug("announced adapter not taken: %s", error)


def record_of(submission: Submission) -> AdapterRecord:
    """The donor's record, as it was handed in."""
    record = record_bytes.from_bytes(submission.record)
    if not isinstance(record, AdapterRecord):
        raise UsageError(f"record of type {record.type}")
    return record


def refused_of(error: SeshuError, next_step: str, folder: Path | None = None) -> Refused:
    """The error as its donor and, with the verdicts, everybody reads it.

    What failed between peers or on this disk names peers, addresses and folders: that is for the
    log alone.
    """
    logger.info("adapter not had: %s", error)
    if isinstance(error, PeerError | ResourceError):
        return Refused(NO_HOLDER, next_step)
    reason = "; ".join(part for part in (error.what, error.rule) if part)
    if folder is not None:
        reason = reason.replace(str(folder), "the package")
    return Refused(reason, error.way_out or next_step)


def refuse(ledger: Ledger, refused: Mapping[str, Refused]) -> None:
    """Write refusals, by digest, into the ledger."""
    for digest, (reason, next_step) in refused.items():
        ledger.judge(digest, state="rejected", reason=reason, gain="", next_step=next_step)


@dataclass(frozen=True)
class ReadRule:
    """What the strict reader holds adapters to, and how many take part at most."""

    shape: MambaShape
    max_rank: int
    max_adapters: int


def read_all(
    ledger: Ledger, current: Round, *, rule: ReadRule, folder_of: Callable[[str], Path]
) -> dict[str, Adapter]:
    """Digest → adapter, for those that pass the strict reader; the others are rejected by name.

    Read in an order that the round's secret seed draws, so that a crowd cannot choose who is read
    before the round is full; who comes after that may return.
    """
    rules, adapters = AdapterRules(max_rank=rule.max_rank), dict[str, Adapter]()
    pending = [one for one in ledger.adapters(current.number) if one.state == "pending"]
    random.Random(current.seed).shuffle(pending)
    for submission in pending:
        if len(adapters) == rule.max_adapters:
            crowded = Refused(f"{CROWDED}: a round takes {rule.max_adapters} adapters", RETURN)
            refuse(ledger, {submission.digest: crowded})
            continue
        folder = folder_of(submission.digest)
        try:
            adapters[submission.digest] = read_adapter(
                folder,
                shape=rule.shape,
                rules=rules,
                digest=submission.digest,
                base_revision=current.parent,
            )
        except SeshuError as error:
            refuse(ledger, {submission.digest: refused_of(error, MAKE_AGAIN, folder)})
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
    return {random_id: language_of(ledger, digest) for random_id, digest in ids.items()}


def language_of(ledger: Ledger, digest: str) -> str:
    """The language that an adapter's donor declared; nothing for a digest nobody handed in."""
    submission = ledger.adapter(digest)
    return record_of(submission).language if submission else ""
