"""An adapter to the Hub, in a process of its own: it can be ended, which a blocking upload cannot.

The whole of it has a deadline, however the Hub trickles. Knows no swarm.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.errors import DeadlineError, PackageError, PeerLostError, SeshuError
from seshu_swarm.packages import Manifest
from seshu_swarm.peer.config import PushConfig
from seshu_swarm.program import log
from seshu_swarm.program.children import Child, Children
from seshu_swarm.program.running import Stop
from seshu_swarm.stores import references
from seshu_swarm.stores.hub import HubStore
from seshu_swarm.stores.references import Reference

PUSHER = "seshu_swarm.peer.donating"
# Before the first byte, and after the last.
SETTLING_SECONDS = 120.0
MIN_BYTES_PER_SECOND = 50_000


def run(settings: PushConfig) -> int:
    """`donating push`: says an event `pushed` with the reference, or with what the Hub said."""
    # Documented there, but not exported in the way that mypy wants.
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
    folder = Path(settings.folder)
    store = HubStore(settings.repository)
    try:
        reference = str(asyncio.run(store.push(folder, packages.read_manifest(folder).digest)))
        log.event("pushed", reference, reference=reference, failure="")
    except (PackageError, PeerLostError) as error:
        log.event("pushed", str(error), reference="", failure=str(error))
    return 0


async def upload(
    repository: str,
    folder: Path,
    *,
    logs: Path,
    stop: Stop,
    settling_seconds: float = SETTLING_SECONDS,
) -> Reference | None:
    """The pushed package; None if it was stopped. Raises PeerLostError, DeadlineError."""
    manifest = packages.read_manifest(folder)
    children = Children(logs, lambda name, event: None)
    try:
        arguments = ["push", str(folder), "--repository", repository]
        child = await children.start("pusher", PUSHER, arguments)
        seconds = settling_seconds + manifest.size_bytes / MIN_BYTES_PER_SECOND
        pushing = asyncio.create_task(_reference_of(child, manifest, seconds))
        stopping = asyncio.create_task(stop.wait())
        return await _first(pushing, stopping)
    finally:
        await children.end()


async def _first(
    pushing: asyncio.Task[Reference], stopping: asyncio.Task[None]
) -> Reference | None:
    try:
        both: list[asyncio.Task[Reference] | asyncio.Task[None]] = [pushing, stopping]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return pushing.result() if pushing.done() else None
    finally:
        pushing.cancel()
        stopping.cancel()


async def _reference_of(child: Child, manifest: Manifest, seconds: float) -> Reference:
    try:
        event = await child.wait_for("pushed", seconds=seconds)
    except SeshuError as error:
        if child.process.returncode is None:
            raise DeadlineError(
                f"the push to the Hub was not done after {seconds:.0f} s",
                rule=f"at least {MIN_BYTES_PER_SECOND} bytes per second",
                way_out="try again later",
            ) from error
        raise PeerLostError(str(error)) from error
    if event["failure"]:
        raise PeerLostError(str(event["failure"]))
    reference = references.parse(str(event["reference"]))
    if reference.digest != manifest.digest:
        raise PeerLostError(f"the Hub holds {reference}, not {manifest.digest}")
    return reference
