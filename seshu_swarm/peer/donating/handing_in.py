"""From a finished adapter to an acknowledged one: leave it with holders, submit it, ask."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.data.hub_rows import licence_of
from seshu_swarm.errors import DeadlineError, PeerError, PeerLostError, ResourceError
from seshu_swarm.packages import Manifest
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating.tuning import Tuned
from seshu_swarm.peer.donating.uploading import upload
from seshu_swarm.peer.guest import Guest
from seshu_swarm.program import log
from seshu_swarm.program.running import Stop
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord, RunRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.stores.file import FileStore
from seshu_swarm.stores.references import Reference
from seshu_swarm.streams.protocol import INTAKE, AskVerdict, IntakeRequest, SubmitAdapter, Verdict

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
MIN_HOLDERS = 2
LICENCE = "CC-BY-4.0"


async def push(
    joined: Joined, settings: FinetuneConfig, guest: Guest, tuned: Tuned, *, stop: Stop
) -> Reference | None:
    """Leave the adapter where others can fetch it; None if stopped.

    Raises PeerError, PackageError, ResourceError.
    """
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
        logs = joined.state_dir / "logs"
        try:
            return await upload(settings.repository, tuned.folder, logs=logs, stop=stop)
        except (PeerLostError, DeadlineError) as error:
            text = f"not pushed to the Hub: {error}; it goes to holders in the swarm instead"
            log.event("fallback", text, store="swarm", reason=str(error))
    return await _leave_with_holders(joined, tuned.folder, manifest)


def _published(joined: Joined) -> Path:
    return joined.state_dir / "published"


async def _leave_with_holders(joined: Joined, folder: Path, manifest: Manifest) -> Reference:
    """With MIN_HOLDERS of the coordinator and the hosts; where fewer take it, that is said."""
    failures: list[str] = []
    num_holders = 0
    for peer in [joined.coordinator, *await _other_holders(joined)]:
        try:
            await joined.store.push_to([peer], folder, manifest, holders=1)
            num_holders += 1
        except PeerError as error:
            failures.append(str(error))
        if num_holders == MIN_HOLDERS:
            break
    if num_holders == 0:
        raise PeerLostError(
            f"nobody took adapter {manifest.digest[:12]}: {'; '.join(failures)}"[:500],
            rule="the coordinator or another holder must keep it before it is announced",
            way_out="try again when the coordinator is back, or use --store hub",
        )
    if num_holders < MIN_HOLDERS:
        logger.warning("only one peer holds the adapter: %s", "; ".join(failures) or "no other")
    return Reference.of_swarm(manifest.digest)


async def _other_holders(joined: Joined) -> list[str]:
    try:
        found = await joined.swarm.spans(joined.run.num_blocks)
    except PeerError as error:
        logger.warning("no look at who hosts: %s", error)
        return []
    return rotated({f.owner for f in found if not f.record.is_draining}, joined.swarm.peer_id)


def rotated(holders: Iterable[str], own: str) -> list[str]:
    """The holders but ourselves, beginning with another one for every donor."""
    others = sorted(set(holders) - {own})
    first = int.from_bytes(hashlib.sha256(own.encode()).digest()[:8]) % max(1, len(others))
    return [*others[first:], *others[:first]]


def licence_for(settings: FinetuneConfig) -> tuple[str, str]:
    """The licence, and why it is that one."""
    if settings.licence is not None:
        return settings.licence, "as you said"
    if bound := licence_of(settings.data or ""):
        return bound, f"the rows of {settings.data} bind it; --licence says otherwise"
    return LICENCE, "nothing else was said"


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
        licence=licence_for(settings)[0],
        round_index=run.round_index,
        purpose="task" if settings.task else "merge",
        task=settings.task,
    )


async def submit(joined: Joined, record: AdapterRecord) -> Verdict | None:
    """Hand the adapter in; None while the coordinator cannot be reached.

    Raises RefusalError when the coordinator says no.
    """
    return await _ask(joined, SubmitAdapter(record=record_bytes.to_bytes(record)))


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
        logger.warning("no word from the coordinator: %s", error)
        return None
