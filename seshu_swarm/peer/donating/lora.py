"""A donor's LoRA: rows and a checkpoint in, a checked adapter package out.

The loss is on answers only; some rows are held out, and the adapter is written only if it lowers
their loss. Running text can be mixed in. Killed at any moment, it goes on where it was, from the
state in `resume_folder`. Knows no swarm: it neither fetches nor announces.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from seshu_swarm import packages
from seshu_swarm.adapters.rules import TARGETS
from seshu_swarm.data.batches import pack_documents
from seshu_swarm.data.prompts import encode_row
from seshu_swarm.data.text import Document, Row
from seshu_swarm.data.tokeniser import ByteTokeniser, Tokeniser
from seshu_swarm.data.windows import num_bytes, windows_of_rows
from seshu_swarm.errors import TrainingError
from seshu_swarm.evaluate.bits import window_nats
from seshu_swarm.peer.donating.lora_model import (
    LoraModel,
    check_trained,
    load_lora_model,
    save_adapter,
)
from seshu_swarm.peer.donating.lora_rows import hold_out
from seshu_swarm.peer.donating.lora_settings import LoraSettings
from seshu_swarm.training.feeding import RowBatches, TextBatches, interleaved
from seshu_swarm.training.loop import Batches, HookFunctions, Hooks, TrainingResult, train
from seshu_swarm.training.state import StateFile

STATE_FILE = "lora.safetensors"
REPLAY_LENGTH = 256
WINDOWS_PER_CALL = 8  # short enough to heed a stop within a second


@dataclass(frozen=True)
class LoraResult:
    """`loss_before` and `loss_after`: nats per byte of the held-out answers."""

    folder: Path
    digest: str
    loss_before: float
    loss_after: float
    num_rows: int
    num_held_out_rows: int
    tokens_per_second: float

    @property
    def bits_per_byte_before(self) -> float:
        return self.loss_before / math.log(2)

    @property
    def bits_per_byte_after(self) -> float:
        return self.loss_after / math.log(2)


def finetune(
    base_folder: Path,
    rows: Sequence[Row],
    out_folder: Path,
    *,
    settings: LoraSettings,
    documents: Sequence[Document] = (),
    resume_folder: Path | None = None,
    **hooks: Unpack[HookFunctions],
) -> LoraResult | None:
    """Train an adapter on `rows` and write it as a package; None if it was stopped on the way.

    `documents` is running text for `replay_share`, `hooks` are those of `training.Hooks`. Raises
    DataError (too few different answers), PackageError (the base), TrainingError (a loss that is
    not finite, or that did not fall on the held-out rows), DiskFullError, ResourceError.
    """
    kept, held = hold_out(rows, share=settings.held_out_share, max_rows=settings.max_held_out_rows)
    revision = packages.read_manifest(base_folder).digest
    tokeniser = ByteTokeniser()
    batches = _batches(tokeniser, kept, documents, settings)
    alpha = settings.rank * settings.scale
    model = load_lora_model(
        base_folder,
        rank=settings.rank,
        alpha=alpha,
        seed=settings.seed,
        targets=settings.targets,
    )
    state_file = _state_file(resume_folder, settings, revision, [*kept, *documents])
    caller = Hooks(**hooks)
    loss_before = answer_loss(model, tokeniser, held, should_stop=caller.should_stop)
    trained = _train(model, batches, settings, caller, state_file)
    loss_after = answer_loss(model, tokeniser, held, should_stop=caller.should_stop)
    if trained.stopped or loss_before is None or loss_after is None:
        return None
    _check_fell(loss_before, loss_after, len(held))
    check_trained(model, batches(0))
    about = _about(settings, revision, kept, trained, (loss_before, loss_after))
    digest = save_adapter(out_folder, model, about=about)
    if state_file is not None:
        state_file.path.unlink(missing_ok=True)
    counts = (len(kept), len(held))
    return LoraResult(
        out_folder, digest, loss_before, loss_after, *counts, trained.tokens_per_second
    )


def answer_loss(
    model: LoraModel,
    tokeniser: Tokeniser,
    rows: Sequence[Row],
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """Nats per byte of the rows' answers; None if it was stopped on the way."""
    windows = sorted(windows_of_rows(tokeniser, rows), key=lambda window: len(window.ids))
    nats = 0.0
    for start in range(0, len(windows), WINDOWS_PER_CALL):
        if should_stop():
            return None
        nats += float(window_nats(model, windows[start : start + WINDOWS_PER_CALL]).sum())
    return nats / num_bytes(windows)


def _batches(
    tokeniser: Tokeniser, rows: Sequence[Row], documents: Sequence[Document], settings: LoraSettings
) -> Batches:
    encoded = [encode_row(tokeniser, row, settings.max_tokens) for row in rows]
    of_rows = RowBatches(encoded, max_tokens=settings.batch_tokens, seed=settings.seed)
    if not (documents and settings.replay_share):
        return of_rows
    length = min(REPLAY_LENGTH, settings.batch_tokens)
    languages = sorted({document.language for document in documents})
    sequences = {
        language: pack_documents(
            tokeniser,
            [document for document in documents if document.language == language],
            length,
            np.random.default_rng(settings.seed),
        )
        for language in languages
    }
    of_text = TextBatches(sequences, batch_size=settings.batch_tokens // length, seed=settings.seed)
    return interleaved(of_rows, of_text, settings.replay_share)


def _state_file(
    folder: Path | None, settings: LoraSettings, revision: str, items: Sequence[Row | Document]
) -> StateFile | None:
    """The state belongs to one base, one set of rows and one way to train; time may be added."""
    if folder is None:
        return None
    facts = dataclasses.asdict(settings)
    for name in ("max_steps", "max_seconds", "state_period_seconds"):
        del facts[name]
    digests = [item.digest for item in items]
    text = json.dumps([facts, revision, digests], sort_keys=True)
    return StateFile(
        folder / STATE_FILE,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
        period_seconds=settings.state_period_seconds,
    )


def _train(
    model: LoraModel,
    batches: Batches,
    settings: LoraSettings,
    hooks: Hooks,
    state_file: StateFile | None,
) -> TrainingResult:
    return train(
        model,
        batches,
        schedule=settings.schedule,
        budget=settings.budget,
        hooks=hooks,
        state_file=state_file,
    )


def _check_fell(before: float, after: float, num_held_out_rows: int) -> None:
    if not after < before:
        raise TrainingError(
            f"the loss on {num_held_out_rows} held-out rows went from {before:.4f} to {after:.4f} "
            "nats per byte",
            rule="an adapter is offered only if it lowers the loss on rows it has not seen",
            way_out="give more rows, more time (--max-seconds), or a smaller --learning-rate",
        )


def _about(
    settings: LoraSettings,
    revision: str,
    rows: Sequence[Row],
    trained: TrainingResult,
    losses: tuple[float, float],
) -> dict[str, Any]:
    """Facts of the manifest: what a coordinator may show; nothing of the donor or the machine."""
    (language, _), *_ = Counter(row.language for row in rows).most_common(1)
    return {
        "base_revision": revision,
        "language": language,
        "num_rows": len(rows),
        "rank": settings.rank,
        "scale": settings.scale,
        "targets": [target for target in TARGETS if target in settings.targets],
        "learning_rate": settings.learning_rate,
        "batch_tokens": settings.batch_tokens,
        "accumulation": settings.accumulation,
        "replay_share": settings.replay_share,
        "num_steps": trained.num_steps,
        "num_tokens": trained.num_tokens,
        "held_out_nats_per_byte_before": losses[0],
        "held_out_nats_per_byte_after": losses[1],
    }
