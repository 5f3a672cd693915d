"""From a finished adapter to an acknowledged one: push, submit, announce, ask."""

from __future__ import annotations

import logging
from pathlib import Path

from seshu_swarm import log, packages, records
from seshu_swarm.errors import DeadlineError, PackageError, PeerLostError, ResourceError
from seshu_swarm.joining import Joined
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating.tuning import Tuned
from seshu_swarm.peer.guest import Guest
from seshu_swarm.protocol import INTAKE, AskVerdict, IntakeRequest, SubmitAdapter, Verdict
from seshu_swarm.records import AdapterRecord, RunRecord
from seshu_swarm.references import Reference
from seshu_swarm.stores.file import FileStore
from seshu_swarm.stores.hub import HubStore

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0


async def push(joined: Joined, settings: FinetuneConfig, guest: Guest, tuned: Tuned) -> Reference:
    """Leave the adapter where others can fetch it. Raises PeerError, PackageError, ResourceError."""
    manifest = packages.verify(tuned.folder, tuned.digest)
    if not guest.allow_upload(manifest.size_bytes):
        raise ResourceError(
            f"the adapter has {manifest.size_bytes} bytes, {guest.uploaded_bytes} were sent today",
            rule=f"limits: {guest.limits}",
            way_out="raise --max-upload-per-day or push tomorrow: the adapter is kept",
        )
    if settings.store == "file":
        return await FileStore(_published(joined)).push(tuned.folder, tuned.digest)
    if settings.store == "hub":
        try:
            return await HubStore(settings.repository).push(tuned.folder, tuned.digest)
        except (PackageError, PeerLostError) as error:
            text = f"not pushed to the Hub: {error}; it goes to holders in the swarm instead"
            log.event("fallback", text, store="swarm", reason=str(error))
    holders = [joined.coordinator, *await _other_holders(joined)]
    return await joined.store.push_to(holders, tuned.folder, manifest)


def _published(joined: Joined) -> Path:
    return joined.state_dir / "published"


async def _other_holders(joined: Joined) -> list[str]:
    found = await joined.swarm.spans(joined.run.num_blocks)
    return sorted({f.owner for f in found if not f.record.is_draining})


def record_of(
    run: RunRecord, settings: FinetuneConfig, tuned: Tuned, reference: Reference
) -> AdapterRecord:
    """What is signed of an adapter: for merging, or for the task that the donor named."""
    return AdapterRecord(
        run_id=run.run_id,
        reference=str(reference),
        digest=tuned.digest,
        base_revision=run.revision,
        rank=settings.rank,
        language=tuned.language,
        num_rows=tuned.num_rows,
        licence=settings.licence,
        round_index=run.round_index,
        purpose="task" if settings.task else "merge",
        task=settings.task,
    )


async def hand_in(joined: Joined, record: AdapterRecord) -> Verdict | None:
    """Submit the adapter and announce it; None while the coordinator cannot be reached.

    Raises RefusalError when the coordinator says no.
    """
    # Handed in before it is announced: whoever reads the DHT comes too late to claim it.
    verdict = await _ask(joined, SubmitAdapter(record=records.to_bytes(record)))
    await joined.swarm.announce(record)
    return verdict


async def ask_verdict(joined: Joined, digest: str) -> Verdict | None:
    return await _ask(joined, AskVerdict(digest=digest))


async def _ask(joined: Joined, request: SubmitAdapter | AskVerdict) -> Verdict | None:
    """The coordinator's word, or None while it cannot be had. Raises RefusalError."""
    try:
        stream = await joined.swarm.open(joined.coordinator, INTAKE)
        try:
            await stream.send(IntakeRequest(request=request))
            return await stream.receive(
                Verdict, seconds=ANSWER_SECONDS, what="the coordinator's word"
            )
        finally:
            stream.close()
    except (PeerLostError, DeadlineError) as error:
        logger.warning("no word from the coordinator; the DHT keeps the record: %s", error)
        return None
