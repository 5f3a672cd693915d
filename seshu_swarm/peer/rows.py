"""The rows a donor trains on: own ones, or the shard that the run deals.

A shard is dealt from peer id and round alone, by the run's signed catalogue; it never holds a
held-out row, because the catalogue has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seshu_swarm.data.catalogue import deal, read_shard, shards_of
from seshu_swarm.data.own_rows import read_rows
from seshu_swarm.data.text import Row
from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.joining import Joined
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.records import RunRecord
from seshu_swarm.references import Reference


@dataclass(frozen=True)
class Dealt:
    """Rows of one language and where they came from."""

    rows: Sequence[Row]
    language: str
    source: str


def own_rows(settings: FinetuneConfig) -> Dealt:
    """Read `settings.data`. Raises DataError."""
    language = settings.language or ""
    rows = read_rows(
        settings.data or "",
        language=language,
        columns=_columns(settings.columns),
        bad_rows="skip" if settings.bad_rows == "skip" else "refuse",
    )
    return Dealt(rows, language, settings.data or "")


def _columns(text: str) -> dict[str, str]:
    columns = {}
    for part in filter(None, text.split(",")):
        field, equals, column = part.partition("=")
        if not equals or field not in ("instruction", "input", "output"):
            raise UsageError(
                f"--columns {part!r}",
                rule="FIELD=COLUMN",
                way_out="output=answer,instruction=question",
            )
        columns[field] = column
    return columns


async def shard_rows(joined: Joined, run: RunRecord, language: str | None) -> Dealt:
    """Fetch this peer's shard of this round. Raises DataError, PackageError, PeerError."""
    if run.catalogue is None:
        raise DataError(
            f"run {run.run_id!r} deals no data",
            rule="a run may have no catalogue",
            way_out="bring your own rows: --data FILE --language hi",
        )
    reference, folder = Reference.of_swarm(run.catalogue), joined.package_folder(run.catalogue)
    manifest = await joined.store.fetch(reference, folder, [])
    # Without a wish, the language is dealt as the shard is.
    language = language or deal(joined.swarm.peer_id, run.round_index, run.languages)
    name = deal(joined.swarm.peer_id, run.round_index, shards_of(manifest, language))
    await joined.store.fetch(reference, folder, [name])
    return Dealt(read_shard(folder / name), language, name)
