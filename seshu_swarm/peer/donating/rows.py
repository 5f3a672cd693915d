"""The rows a donor trains on: own ones, or the shard that the run deals.

A shard is dealt from peer id and a round alone, by the run's signed catalogue; it never holds a
held-out row, because the catalogue has none. Knows not which round deals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.data.catalogue import deal, read_pretrain_shard, read_shard, shards_of
from seshu_swarm.data.hub_rows import Part
from seshu_swarm.data.own_rows import check_source, columns_of, read_rows
from seshu_swarm.data.text import Document, Row
from seshu_swarm.errors import DataError
from seshu_swarm.packages import Manifest
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.program import waits
from seshu_swarm.records.kinds import RunRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.stores.references import Reference


@dataclass(frozen=True)
class Dealt:
    """Rows of one language and where they came from; running text of the run's languages."""

    rows: Sequence[Row]
    language: str
    source: str
    documents: Sequence[Document] = ()


def check_rows(settings: FinetuneConfig) -> None:
    """Refuse own rows that cannot be read, before anybody is joined. Raises DataError, UsageError."""
    if settings.data:
        check_source(
            settings.data,
            language=settings.language or "",
            columns=columns_of(settings.columns),
            bad_rows="skip" if settings.bad_rows == "skip" else "refuse",
        )


def own_rows(settings: FinetuneConfig, should_stop: Callable[[], bool]) -> Dealt:
    """Read `settings.data`; of a Hub data set no more once it should stop. Raises DataError."""
    language = settings.language or ""
    rows = read_rows(
        settings.data or "",
        language=language,
        columns=columns_of(settings.columns),
        bad_rows="skip" if settings.bad_rows == "skip" else "refuse",
        max_rows=settings.max_rows,
        part=Part(settings.split, settings.subset, should_stop),
    )
    return Dealt(rows, language, settings.data or "")


async def shard_rows(
    joined: Joined, run: RunRecord, language: str | None, *, round_index: int
) -> Dealt:
    """Fetch this peer's shard of a round. Raises DataError, PackageError, PeerError."""
    if run.catalogue is None:
        raise DataError(
            f"run {run.run_id!r} deals no data",
            rule="a run may have no catalogue",
            way_out="bring your own rows: --data FILE --language hi",
        )
    catalogue = await Catalogue.of(joined, run, round_index)
    # Without a wish, the language is dealt as the shard is.
    language = language or catalogue.deal(run.languages)
    path = await catalogue.fetch(catalogue.deal(shards_of(catalogue.manifest, language)))
    return Dealt(read_shard(path), language, path.name)


async def running_text(joined: Joined, run: RunRecord, *, round_index: int) -> list[Document]:
    """A shard of running text in each of the run's languages that has one, dealt as rows are.

    Trained on beside the rows, it keeps an adapter from unlearning what the base can do: without
    it, adapters of different languages harm one another when they are merged.
    """
    if run.catalogue is None:
        return []
    catalogue = await Catalogue.of(joined, run, round_index)
    documents: list[Document] = []
    for language in run.languages:
        if names := catalogue.text_shards(language):
            documents += read_pretrain_shard(await catalogue.fetch(catalogue.deal(names)))
    return documents


@dataclass(frozen=True)
class Catalogue:
    """The run's catalogue as this peer sees it in a round."""

    joined: Joined
    round_index: int
    manifest: Manifest
    folder: Path

    @classmethod
    async def of(cls, joined: Joined, run: RunRecord, round_index: int) -> Catalogue:
        digest = run.catalogue or ""
        folder = joined.package_folder(digest)
        manifest = await joined.store.fetch(Reference.of_swarm(digest), folder, [])
        return cls(joined, round_index, manifest, folder)

    def deal(self, names: Sequence[str]) -> str:
        return deal(self.joined.swarm.peer_id, self.round_index, names)

    def text_shards(self, language: str) -> tuple[str, ...]:
        prefix = f"pretrain-{language}-"
        return tuple(sorted(name for name in self.manifest.files if name.startswith(prefix)))

    async def fetch(self, name: str) -> Path:
        reference = Reference.of_swarm(self.manifest.digest)
        with waits.waiting(f"{name} of the run's catalogue"):
            await self.joined.store.fetch(reference, self.folder, [name])
        return self.folder / name
