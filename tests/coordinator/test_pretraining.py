"""Pretraining: real training of a tiny model, repeatable, resumable, continued and documented."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from random import Random

import pytest
import torch

from seshu_swarm import packages
from seshu_swarm.checkpoints import load_whole
from seshu_swarm.coordinator.pretraining.training import (
    Earlier,
    PretrainSettings,
    TrainingText,
    pretrain,
)
from seshu_swarm.data.phrasebook import build
from seshu_swarm.data.text import Document
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.windows import windows_of_documents
from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.training.loop import StepReport
from seshu_swarm.training.schedule import Schedule

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=32, num_blocks=2)
SETTINGS = PretrainSettings(
    batch_size=4,
    length=64,
    max_steps=30,
    seed=1,
    schedule=Schedule(learning_rate=0.01),
    state_period_seconds=0,
)
CORPUS = build(["hi", "ta"], 0, documents_per_language=24)
# Held out: documents that are one window of at most 512 bytes, so that context plays no part.
HELD = {
    language: tuple(d for d in found if len(d.text.encode()) <= 512)[:2]
    for language, found in CORPUS.documents.items()
}
DOCUMENTS = {
    language: tuple(d for d in found if d not in HELD[language])[:20]
    for language, found in CORPUS.documents.items()
}
WINDOWS = {name: windows_of_documents(ByteTokeniser(), found) for name, found in HELD.items()}
TEXT = TrainingText(DOCUMENTS, WINDOWS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "checkpoint"
    digest = pretrain(SHAPE, TEXT, folder, settings=SETTINGS)
    packages.verify(folder, digest)
    return folder


def bits_per_byte(model: WholeModel, documents: tuple[Document, ...]) -> float:
    """Running text after an end token, one document at a time."""
    nats, num_bytes = 0.0, 0
    for document in documents:
        ids = [1, *(byte + 3 for byte in document.text.encode())]
        with torch.no_grad():
            log_probs = model.logits(torch.tensor([ids]))[0].double().log_softmax(-1)
        nats -= sum(float(log_probs[i, id]) for i, id in enumerate(ids[1:]))
        num_bytes += len(ids) - 1
    return nats / num_bytes / math.log(2)


def test_held_out_text_gets_likelier(trained: Path) -> None:
    about = packages.read_manifest(trained).about
    model = load_whole(trained)
    for language, held in HELD.items():
        after = about["bits_per_byte_after"][language]
        assert after == pytest.approx(bits_per_byte(model, held), rel=1e-4)
        # 384 ids at random are log2(384) = 8.6 bits.
        assert about["bits_per_byte_before"][language] == pytest.approx(8.6, abs=0.2)
        assert after < 5


def test_manifest_and_card_name_the_data(trained: Path) -> None:
    about = packages.read_manifest(trained).about
    num_bytes = sum(len(document.text.encode()) for document in DOCUMENTS["ta"])
    digests = "\n".join(sorted(document.digest for document in DOCUMENTS["ta"]))
    assert about["data"]["ta"] == {
        "num_documents": 20,
        "num_bytes": num_bytes,
        "sha256": hashlib.sha256(digests.encode()).hexdigest(),
    }
    assert about["parent"] is None
    assert (about["num_steps"], about["num_tokens"]) == (30, 30 * 4 * 64)
    card = (trained / "README.md").read_text(encoding="utf-8")
    after = about["bits_per_byte_after"]["ta"]
    assert f"| ta | 20 | {num_bytes:,} | 8." in card and f"| {after:.3f} |" in card
    assert "- learning_rate: 0.01" in card
    assert "\n| 29 | " in card or "\n| 30 | " in card
    assert card.startswith("---\nlibrary_name: transformers\n")


class KilledError(Exception):
    """Stands for the end of the process: nothing after it runs."""


def test_killed_and_resumed_gives_the_same_checkpoint(trained: Path, tmp_path: Path) -> None:
    def die(report: StepReport) -> None:
        if report.step == 11:
            raise KilledError

    folder, state = tmp_path / "checkpoint", tmp_path / "state"
    with pytest.raises(KilledError):
        pretrain(
            SHAPE,
            TEXT,
            folder,
            settings=SETTINGS,
            resume_folder=state,
            on_step=die,
        )
    assert not folder.exists()
    steps: list[int] = []
    digest = pretrain(
        SHAPE,
        TEXT,
        folder,
        settings=SETTINGS,
        resume_folder=state,
        on_step=lambda report: steps.append(report.step),
    )
    assert steps == list(range(11, 31))
    assert digest == packages.read_manifest(trained).digest
    assert (folder / "README.md").read_bytes() == (trained / "README.md").read_bytes()
    assert not list(state.iterdir())


def test_seed_decides_the_weights(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        settings = dataclasses.replace(SETTINGS, max_steps=2, seed=seed)
        torch.manual_seed(Random(name).randrange(1_000))  # the process's own numbers play no part
        digests.append(pretrain(SHAPE, TEXT, tmp_path / name, settings=settings))
    assert digests[0] == digests[1] != digests[2]


def test_continued_from_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, max_steps=10)
    folder = tmp_path / "checkpoint"
    pretrain(SHAPE, TEXT, folder, settings=settings, earlier=Earlier(trained))
    parent, about = packages.read_manifest(trained), packages.read_manifest(folder).about
    assert about["parent"] == parent.digest
    assert about["bits_per_byte_before"] == pytest.approx(parent.about["bits_per_byte_after"])
    for language, bits in about["bits_per_byte_after"].items():
        assert bits < about["bits_per_byte_before"][language]


def test_another_shape_than_the_parent_is_refused(trained: Path, tmp_path: Path) -> None:
    shape = MambaShape(d_model=16, num_blocks=2)
    with pytest.raises(UsageError, match="32 x 2, not 16 x 2"):
        pretrain(shape, TEXT, tmp_path / "checkpoint", settings=SETTINGS, earlier=Earlier(trained))


def test_stopped_leaves_its_state_and_no_checkpoint(tmp_path: Path) -> None:
    answers = iter([False, False, True])
    digest = pretrain(
        SHAPE,
        TEXT,
        tmp_path / "checkpoint",
        settings=SETTINGS,
        resume_folder=tmp_path / "state",
        should_stop=lambda: next(answers),
    )
    assert digest is None
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    documents = {"hi": [Document("a", "hi", "नमस्ते")]}
    with pytest.raises(DataError, match="at least one sequence of 64 tokens"):
        pretrain(SHAPE, TrainingText(documents), tmp_path / "checkpoint", settings=SETTINGS)


@pytest.mark.parametrize(
    "change", [{"batch_size": 0}, {"length": 1}, {"power": 1.5}, {"replay_share": 1.0}]
)
def test_senseless_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(SETTINGS, **change)  # type: ignore[arg-type]
