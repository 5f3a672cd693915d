"""Pretraining of the whole model on running text, from fresh weights or from a checkpoint.

Text of all languages is packed and mixed by temperature. What goes on from a checkpoint may see
text that was trained on before between the new (replay), so that it is not forgotten. Killed at any
moment, it goes on where it was, from the state in `resume_folder`. Knows no swarm and no adapters.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from seshu_swarm import checkpoints, packages
from seshu_swarm.coordinator.pretraining.card import pretraining_card
from seshu_swarm.data.text import Document
from seshu_swarm.data.windows import Window, num_bytes
from seshu_swarm.errors import UsageError
from seshu_swarm.evaluate.bits import bits_per_byte, window_nats
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.training.feeding import TextBatches, interleaved, packed_text
from seshu_swarm.training.loop import Batches, HookFunctions, Hooks, TrainingResult, train
from seshu_swarm.training.schedule import Budget, Schedule
from seshu_swarm.training.state import StateFile

STATE_FILE = "pretraining.safetensors"
SCORING_TOKENS = 4_096

# Of no steps: the weights are those of the seed.
UNTRAINED = TrainingResult(0, 0, 0.0, 0.0, 0.0, stopped=False, curve=())

Documents = Mapping[str, Sequence[Document]]
Windows = Mapping[str, Sequence[Window]]


@dataclass(frozen=True)
class TrainingText:
    """Documents to train on, by language, and held-out windows, by language.

    The windows are scored before and after: their bits per byte stand in the manifest and the card.
    """

    documents: Documents
    held_out: Windows = field(default_factory=dict)


@dataclass(frozen=True)
class Earlier:
    """What is gone on from: a checkpoint, text that it has seen, and facts for the manifest."""

    checkpoint: Path
    text: Documents = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """How a model is pretrained: `batch_size` sequences of `length` tokens make a microbatch.

    `power` mixes the languages (p ∝ n^power: 1 as they are, 0 all alike); `replay_share` of the
    microbatches are of earlier text, where there is some. Raises UsageError.
    """

    batch_size: int = 4
    length: int = 256
    max_steps: int = 100_000
    max_seconds: float = 3_600.0
    power: float = 0.5
    replay_share: float = 0.0
    seed: int = 0
    schedule: Schedule = field(default_factory=Schedule)
    state_period_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not (self.batch_size >= 1 and self.length >= 2):
            raise UsageError(
                f"batches of {self.batch_size} x {self.length} tokens",
                rule="one sequence or more, of at least two tokens",
            )
        if not 0 <= self.power <= 1:
            raise UsageError(f"mixing power {self.power}", rule="between 0 and 1")
        if not 0 <= self.replay_share < 1:
            raise UsageError(
                f"a replay share of {self.replay_share}", rule="from 0 to below 1: new text is new"
            )


def pretrain(
    shape: MambaShape,
    text: TrainingText,
    out_folder: Path,
    *,
    settings: PretrainSettings,
    earlier: Earlier | None = None,
    resume_folder: Path | None = None,
    **hooks: Unpack[HookFunctions],
) -> str | None:
    """Train and write a checkpoint; its digest, or None if it was stopped on the way. With 0 for
    `max_steps` nothing is trained: the weights are random ones by the seed.

    `earlier` is what to go on from; `hooks` are those of `training.Hooks`. Raises UsageError
    (another shape than the parent's), DataError (too little text), TrainingError (a loss that is
    not finite), PackageError, DiskFullError, ResourceError.
    """
    model = _start(shape, earlier, settings.seed)
    batches = _batches(text.documents, settings, earlier)
    before = held_out_bits(model, text.held_out)
    trained = UNTRAINED
    if settings.max_steps != 0:
        trained = train(
            model,
            batches,
            schedule=settings.schedule,
            budget=Budget(max_steps=settings.max_steps, max_seconds=settings.max_seconds),
            hooks=Hooks(**hooks),
            state_file=_state_file(resume_folder, shape, text.documents, settings, earlier),
        )
    if trained.stopped:
        return None
    about = _about(text.documents, settings, earlier) | {
        "num_steps": trained.num_steps,
        "num_tokens": trained.num_tokens,
        "bits_per_byte_before": before,
        "bits_per_byte_after": held_out_bits(model, text.held_out),
    }
    digest = _write(model, out_folder, about, trained.curve)
    if resume_folder is not None:
        (resume_folder / STATE_FILE).unlink(missing_ok=True)
    return digest


def _write(
    model: WholeModel, folder: Path, about: dict[str, Any], curve: Sequence[tuple[int, float]]
) -> str:
    return checkpoints.save_checkpoint(
        folder,
        shape=model.shape,
        tensors=model.checkpoint_tensors(),
        about=about,
        card=pretraining_card(model.shape, about, curve),
    )


def held_out_bits(model: WholeModel, windows: Windows) -> dict[str, float]:
    """Bits per byte of each language's windows."""
    scored = _OnHost(model)
    return {
        language: bits_per_byte(
            window_nats(scored, found, max_tokens_per_batch=SCORING_TOKENS).sum(), num_bytes(found)
        )
        for language, found in windows.items()
        if found
    }


@dataclass(frozen=True)
class _OnHost:
    """A model that is scored with ids and logits on the host, wherever its weights are."""

    model: WholeModel

    def logits(self, ids_BL: Tensor) -> Tensor:
        device = next(self.model.parameters()).device
        return self.model.logits(ids_BL.to(device)).to(ids_BL.device)


def _start(shape: MambaShape, earlier: Earlier | None, seed: int) -> WholeModel:
    """Fresh weights by the seed, or the checkpoint's."""
    if earlier is None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = WholeModel(shape)
    else:
        model = checkpoints.load_whole(earlier.checkpoint)
    if earlier is not None and model.shape != shape:
        raise UsageError(
            f"{earlier.checkpoint} is a model of {model.shape.d_model} x {model.shape.num_blocks}, not "
            f"{shape.d_model} x {shape.num_blocks}",
            rule="continued pretraining keeps the shape of the checkpoint",
            way_out="give the checkpoint's own shape, or start without a parent",
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _batches(documents: Documents, settings: PretrainSettings, earlier: Earlier | None) -> Batches:
    new = _text_batches(documents, settings, settings.seed)
    if earlier is None or not settings.replay_share or not any(earlier.text.values()):
        return new
    old = _text_batches(earlier.text, settings, settings.seed + 1)
    return interleaved(new, old, settings.replay_share)


def _text_batches(documents: Documents, settings: PretrainSettings, seed: int) -> TextBatches:
    return packed_text(
        documents,
        batch_size=settings.batch_size,
        length=settings.length,
        seed=seed,
        power=settings.power,
    )


def _about(
    documents: Documents, settings: PretrainSettings, earlier: Earlier | None
) -> dict[str, Any]:
    """What decides the weights, without the budget: it may be extended when a run is resumed."""
    facts = dataclasses.asdict(settings)
    for name in ("max_steps", "max_seconds", "state_period_seconds"):
        del facts[name]
    about = {"method": "pretraining", "settings": facts, "data": _counts(documents)}
    if earlier is None:
        return about | {"parent": None}
    parent = packages.read_manifest(earlier.checkpoint).digest
    return {**earlier.about, **about, "parent": parent, "replayed": _counts(earlier.text)}


def _counts(documents: Documents) -> dict[str, dict[str, Any]]:
    """Per language: documents, bytes, and SHA-256 over the sorted digests of all, a line each."""
    return {
        language: {
            "num_documents": len(found),
            "num_bytes": sum(len(document.text.encode("utf-8")) for document in found),
            "sha256": _digest_of(sorted(document.digest for document in found)),
        }
        for language, found in sorted(documents.items())
    }


def _digest_of(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


def _state_file(
    folder: Path | None,
    shape: MambaShape,
    documents: Documents,
    settings: PretrainSettings,
    earlier: Earlier | None,
) -> StateFile | None:
    if folder is None:
        return None
    # Its digests are of sorted documents: their order decides on the batches, too.
    order = [d.digest for language in sorted(documents) for d in documents[language]]
    facts = [dataclasses.asdict(shape), _about(documents, settings, earlier), order]
    text = json.dumps(facts, sort_keys=True)
    return StateFile(
        folder / STATE_FILE,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
        period_seconds=settings.state_period_seconds,
    )
