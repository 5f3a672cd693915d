"""`peer adapters`: task adapters of a run, as their donors announced them; one of them, fetched.

A fetched adapter has its announced digest and has passed the strict reader before any library sees
it: peft would overwrite base weights from an extra key without a warning.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.rules import AdapterRules
from seshu_swarm.checkpoints.layout import CONFIG
from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.network.dht import Found
from seshu_swarm.peer.config import AdaptersConfig
from seshu_swarm.program import log, running, waits
from seshu_swarm.records.kinds import AdapterRecord
from seshu_swarm.records.uids import adapter_keys
from seshu_swarm.run.joining import Joined, join
from seshu_swarm.stores import references
from seshu_swarm.stores.base import Store
from seshu_swarm.stores.file import FileStore
from seshu_swarm.stores.hub import HubStore
from seshu_swarm.stores.limits import only_an_adapter
from seshu_swarm.stores.references import Reference
from seshu_swarm.stores.swarm import SwarmStore


def run(settings: AdaptersConfig) -> int:
    async def visit(stop: running.Stop) -> int:
        joined = await join(settings)
        try:
            found = await offered(joined, settings)
            if settings.fetch:
                await fetch(joined, chosen(found, settings.fetch), Path(settings.out).expanduser())
            else:
                _print(joined, found)
        finally:
            await joined.swarm.leave()
        return 0

    return running.run(visit)


async def offered(joined: Joined, settings: AdaptersConfig) -> list[Found[AdapterRecord]]:
    """Live records of task adapters, by language, task and digest; one for each digest and owner."""
    keys = adapter_keys(joined.run.run_id)
    found = [
        one
        for one in await joined.swarm.lookup(keys, AdapterRecord)
        if one.record.purpose == "task"
        and settings.language in (None, one.record.language)
        and settings.task in (None, one.record.task)
    ]
    return sorted(found, key=lambda one: (one.record.language, one.record.task, one.record.digest))


def chosen(found: list[Found[AdapterRecord]], digest: str) -> AdapterRecord:
    """The one whose digest begins so; raises UsageError for none or several."""
    matching = {one.record.digest: one.record for one in found}
    matching = {name: record for name, record in matching.items() if name.startswith(digest)}
    if len(matching) != 1:
        raise UsageError(
            f"{len(matching)} task adapters have a digest that begins with {digest!r}",
            rule="an announcement lives a day after its donor last made it",
            way_out="copy the digest from `peer adapters --join LINK`",
        )
    return next(iter(matching.values()))


async def fetch(joined: Joined, record: AdapterRecord, out: Path) -> None:
    """The adapter's files into the folder `out`. Raises PackageError, AdapterError, PeerError."""
    if out.exists() and any(out.iterdir()) and not (out / packages.MANIFEST).is_file():
        raise UsageError(f"{out} is not empty", way_out="name a new folder with --out")
    reference = references.parse(record.reference)
    if reference.digest != record.digest:
        raise UsageError("the reference pins another package than the record names")
    with waits.waiting(f"adapter {record.digest[:12]}"):
        await _store_of(joined, reference.scheme).fetch(reference, out)
    packages.verify(out, record.digest)
    read_adapter(
        out,
        shape=await _shape(joined),
        rules=AdapterRules(),
        digest=record.digest,
        base_revision=record.base_revision,
    )
    text = f"{out} holds adapter {record.digest[:12]} for revision {record.base_revision[:12]}; "
    text += "its README.md says how to use it"
    log.event("fetched", text, folder=str(out), **record.model_dump(mode="json"))


async def _shape(joined: Joined) -> MambaShape:
    """All revisions of a run have one shape, so the newest one's configuration will do."""
    folder = joined.package_folder(joined.run.revision)
    reference = Reference.of_swarm(joined.run.revision)
    await joined.store.fetch(reference, folder, [CONFIG])
    return checkpoints.read_shape(folder)


def _store_of(joined: Joined, scheme: str) -> Store:
    match scheme:
        case "hf":
            return HubStore(admit=only_an_adapter)
        case "file":
            return FileStore(joined.state_dir, admit=only_an_adapter)
        case _:
            return SwarmStore(joined.swarm, [joined.coordinator], admit=only_an_adapter)


def _print(joined: Joined, found: list[Found[AdapterRecord]]) -> None:
    rows = [{"owner": one.owner, **one.record.model_dump(mode="json")} for one in found]
    if not log.is_text():
        log.event("adapters", "adapters", revision=joined.run.revision, adapters=rows)
        return
    if not rows:
        text = f"run {joined.run.run_id} has no task adapters; offer one: peer finetune --task NAME"
        log.event("adapters", text)
        return
    digest = Column("digest", no_wrap=True)  # to be copied whole
    table = Table(digest, "language", "task", "base", "rank", "rows", "licence")
    for one in found:
        record = one.record
        is_newest = record.base_revision == joined.run.revision
        base = "newest" if is_newest else record.base_revision[:12]
        facts = (record.language, record.task, base, str(record.rank), str(record.num_rows))
        table.add_row(record.digest[:12], *facts, escape(record.licence))
    Console().print(table)
