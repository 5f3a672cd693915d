"""`coordinator pretrain`: the run's base from its running text, or more training of its head.

Resumable after a kill. With a head, what comes of it must pass the gate (`continuing`).
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from seshu_swarm import checkpoints
from seshu_swarm.coordinator.config import PretrainConfig
from seshu_swarm.coordinator.opening.place import must_be_opened
from seshu_swarm.coordinator.pretraining import continuing
from seshu_swarm.coordinator.pretraining.text import run_text
from seshu_swarm.coordinator.pretraining.training import (
    Documents,
    Earlier,
    PretrainSettings,
    TrainingText,
    pretrain,
)
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage, Revision
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import EXIT_INTERRUPTED, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.packages import publish_folder
from seshu_swarm.program import log
from seshu_swarm.program.progress import Bar
from seshu_swarm.training.loop import StepReport
from seshu_swarm.training.schedule import Schedule
from seshu_swarm.training.threads import set_threads

FRESH_LEARNING_RATE = 4e-3
LATER_LEARNING_RATE = 1e-3  # a peak as high as the first one's forgets what was learned


def run(settings: PretrainConfig) -> int:
    folder = RunFolder.of(settings.state_dir)
    folder.must_exist()
    with folder.hold():
        ledger = Ledger(folder.ledger)
        must_be_opened(folder, ledger)
        head = Lineage(ledger.database).head()
        if head is None:
            return _first(settings, folder, ledger)
        return _go_on(settings, folder, ledger, head)


def _first(settings: PretrainConfig, folder: RunFolder, ledger: Ledger) -> int:
    if settings.data is not None:
        raise UsageError(
            "--data before the run has a base",
            rule="the base is trained on the text that the run was opened with",
            way_out="leave --data out now, and give it once the run has a base",
        )
    shape = MambaShape(d_model=settings.d_model, num_blocks=settings.num_blocks)
    digest = _train(settings, folder, shape, run_text(folder), earlier=None)
    if digest is None:
        return EXIT_INTERRUPTED
    Lineage(ledger.database).add(digest, parent=None, kind=Kind.PRETRAINING)
    log.event("pretrained", f"pretrained revision {digest}", revision=digest)
    return 0


def _go_on(settings: PretrainConfig, folder: RunFolder, ledger: Ledger, head: Revision) -> int:
    if settings.max_steps == 0:
        raise UsageError(
            f"--max-steps 0, and the run has a base: {head.revision}",
            rule="weights by chance are for a run that has none",
            way_out="give a number of steps to train the head further",
        )
    shape = checkpoints.read_shape(folder.package(head.revision))
    candidate = continuing.waiting(ledger, head, data=settings.data)
    if candidate is None:
        new = continuing.new_text(folder, ledger, settings.data)
        old = run_text(folder)
        earlier = Earlier(
            folder.package(head.revision),
            old if new else {},
            {"round": head.round, "licence": ledger.fact("licence")},
        )
        candidate = _train(settings, folder, shape, new or old, earlier=earlier)
        if candidate is None:
            return EXIT_INTERRUPTED
        continuing.keep(folder, ledger, head, candidate, new)
    continuing.decide(folder, ledger, head, candidate)
    return 0


def _train(
    settings: PretrainConfig,
    folder: RunFolder,
    shape: MambaShape,
    documents: Documents,
    *,
    earlier: Earlier | None,
) -> str | None:
    """The digest of the new package, or None if it was stopped on the way."""
    set_threads(settings.max_threads, shape, batch_size=settings.batch_size, length=settings.length)
    fresh = folder.packages / "pretraining"
    shutil.rmtree(fresh, ignore_errors=True)
    with _stop_asked() as stopped, Bar("pretraining") as bar:
        digest = pretrain(
            shape,
            TrainingText(documents),
            fresh,
            settings=_training(settings, earlier),
            earlier=earlier,
            on_step=partial(_show, bar),
            should_stop=stopped.is_set,
            resume_folder=folder.training_state,
        )
    if digest is None:
        log.event("stopped", "stopped; the same command goes on from here")
        return None
    publish_folder(fresh, folder.package(digest))
    return digest


def _show(bar: Bar, step: StepReport) -> None:
    bar.update(step.progress, loss=step.loss, tokens_per_second=step.tokens_per_second)


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; what these did before, they do again afterwards."""
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _training(settings: PretrainConfig, earlier: Earlier | None) -> PretrainSettings:
    default = FRESH_LEARNING_RATE if earlier is None else LATER_LEARNING_RATE
    training = PretrainSettings(
        batch_size=settings.batch_size,
        length=settings.length,
        max_steps=settings.max_steps,
        max_seconds=settings.max_seconds,
        seed=settings.seed,
        schedule=Schedule(
            learning_rate=settings.learning_rate or default, accumulation=settings.accumulate
        ),
    )
    replays = earlier is not None and bool(earlier.text)
    return replace(training, replay_share=settings.replay_share) if replays else training
