"""The text of a trainer: its own, or that of the run's catalogue, as microbatches by number.

Of the catalogue each trainer takes the shards in an order of its own, so that many trainers do not
feed the same ones. Knows no steps.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from seshu_swarm.data.catalogue import deal, read_pretrain_shard
from seshu_swarm.data.own_text import read_text
from seshu_swarm.data.text import Document
from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.peer.config import TrainConfig
from seshu_swarm.peer.donating.background import in_background
from seshu_swarm.peer.donating.rows import Catalogue
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import RunRecord, TrainingRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.training.feeding import packed_text
from seshu_swarm.training.loop import Batches

# Of each language: a shard has about a mebibyte.
MAX_SHARDS = 64

Documents = Mapping[str, Sequence[Document]]


async def batches_of(
    joined: Joined, settings: TrainConfig, record: TrainingRecord, stop: Stop
) -> Batches | None:
    """The trainer's microbatches, or None if it was stopped. Raises DataError, UsageError, PackageError,
    PeerError."""
    languages = languages_of(settings, joined.run)
    if settings.data:
        source, bad_rows = settings.data, settings.bad_rows
        documents: Documents | None = await in_background(
            stop,
            lambda: read_text(
                source, languages, bad_rows="skip" if bad_rows == "skip" else "refuse"
            ),
        )
    else:
        documents = await _dealt_text(joined, languages)
    if documents is None:
        return None
    found, seed = documents, settings.seed
    return await in_background(
        stop,
        lambda: packed_text(
            found,
            batch_size=record.batch_size,
            length=record.length,
            seed=secrets.randbits(31) if seed is None else seed,
        ),
    )


def languages_of(settings: TrainConfig, run: RunRecord) -> tuple[str, ...]:
    """Those that are asked for, or all of the run. Raises UsageError for others."""
    if foreign := sorted(set(settings.languages) - set(run.languages)):
        raise UsageError(
            f"--languages {','.join(foreign)}",
            rule=f"run {run.run_id!r} is trained on {', '.join(run.languages)}",
            way_out="choose among them, or leave the flag out",
        )
    return settings.languages or tuple(run.languages)


async def _dealt_text(joined: Joined, languages: Sequence[str]) -> Documents:
    run = joined.run
    found: dict[str, list[Document]] = {}
    if run.catalogue is not None:
        catalogue = await Catalogue.of(joined, run, 0)
        for language in languages:
            names = catalogue.text_shards(language)
            for turn in range(min(len(names), MAX_SHARDS)):
                path = await catalogue.fetch(deal(joined.swarm.peer_id, turn, names))
                found.setdefault(language, []).extend(read_pretrain_shard(path))
    if not found:
        raise DataError(
            f"run {run.run_id!r} deals no running text in {', '.join(languages)}",
            rule="a trainer needs text",
            way_out="bring your own: --data FILE or FOLDER",
        )
    return found
