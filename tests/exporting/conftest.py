"""A trained nano: its likeliest byte is ahead of the next, so that two engines can be compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.data import phrasebook
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.training.feeding import packed_text
from seshu_swarm.training.loop import train
from seshu_swarm.training.schedule import Budget, Schedule

SHAPE = MambaShape(d_model=32, num_blocks=2)


@pytest.fixture(scope="session")
def trained_nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed checkpoint of d_model 32 and two blocks, 200 steps on Hindi of the phrasebook."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WholeModel(SHAPE)
    documents = {"hi": phrasebook.build(("hi",), 0, documents_per_language=40).documents["hi"]}
    batches = packed_text(documents, batch_size=2, length=128, seed=0)
    train(model, batches, schedule=Schedule(learning_rate=2e-2), budget=Budget(max_steps=200))
    folder = tmp_path_factory.mktemp("nano") / "nano"
    checkpoints.save_checkpoint(
        folder, shape=SHAPE, tensors=model.checkpoint_tensors(), about={}, card="A nano.\n"
    )
    return folder
