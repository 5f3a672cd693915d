"""`coordinator pretrain`: the run's base model from its running text, resumable after a kill."""

from __future__ import annotations

import shutil
import signal
import threading

from seshu_swarm import log
from seshu_swarm.coordinator.config import PretrainConfig
from seshu_swarm.coordinator.pretraining.training import PretrainSettings, pretrain
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.jsonl import document_of, read_items
from seshu_swarm.data.text import Document
from seshu_swarm.errors import EXIT_INTERRUPTED, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.packages import publish_folder
from seshu_swarm.progress import Bar
from seshu_swarm.schedule import Schedule
from seshu_swarm.threads import set_threads


def run(settings: PretrainConfig) -> int:
    folder = RunFolder.of(settings.state_dir)
    folder.must_exist()
    with folder.hold():
        return _pretrain(settings, folder, Ledger(folder.ledger))


def _pretrain(settings: PretrainConfig, folder: RunFolder, ledger: Ledger) -> int:
    if ledger.rounds():
        raise UsageError(
            "the run has held rounds already",
            rule="the base comes before the first round",
            way_out="open a new run with --base FOLDER to pretrain further",
        )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    shape = MambaShape(d_model=settings.d_model, num_blocks=settings.num_blocks)
    batch_size, length = settings.batch_size, settings.length
    set_threads(settings.max_threads, shape, batch_size=batch_size, length=length)
    fresh = folder.packages / "pretraining"
    shutil.rmtree(fresh, ignore_errors=True)
    with Bar("pretraining") as bar:
        digest = pretrain(
            shape,
            _documents(folder),
            fresh,
            settings=_training(settings),
            on_step=lambda report: bar.update(
                report.progress, loss=report.loss, tokens_per_second=report.tokens_per_second
            ),
            should_stop=stopped.is_set,
            resume_folder=folder.training_state,
        )
    if digest is None:
        log.event("stopped", "stopped; the same command goes on from here")
        return EXIT_INTERRUPTED
    publish_folder(fresh, folder.package(digest))
    lineage = Lineage(ledger.database)
    head = lineage.head()
    lineage.add(digest, parent=head.revision if head else None, kind=Kind.PRETRAINING)
    log.event("pretrained", f"pretrained revision {digest}", revision=digest)
    return 0


def _documents(folder: RunFolder) -> dict[str, list[Document]]:
    files = sorted(folder.pretraining.glob("*.jsonl"))
    return {file.stem: read_items(file, document_of, bad_rows="refuse") for file in files}


def _training(settings: PretrainConfig) -> PretrainSettings:
    return PretrainSettings(
        batch_size=settings.batch_size,
        length=settings.length,
        max_steps=settings.max_steps,
        max_seconds=settings.max_seconds,
        seed=settings.seed,
        schedule=Schedule(learning_rate=settings.learning_rate),
    )
