"""Model and plan of a measurement. Pure but for `fresh_base` and `write_text`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch

from seshu_swarm import checkpoints
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.swarm.model import RandomModel
from seshu_swarm.data.phrasebook import build
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

LANGUAGE = "hi"
NUM_DOCUMENTS = 1_000


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A model of d_model x num_blocks in stages of equal length. `num_steps` is the schedule's."""

    d_model: int = 512
    num_blocks: int = 8
    num_stages: int = 2
    num_microbatches: int = 8
    batch_size: int = 4
    length: int = 256
    num_steps: int = 1_000
    learning_rate: float = 1e-3
    wire_type: str = "int8"
    compute_type: str = "float32"

    @classmethod
    def of(cls, settings: BenchConfig, **facts: object) -> Self:
        """The settings' where they are set, then `facts`, then the defaults."""
        given = {
            "d_model": settings.d_model,
            "num_blocks": settings.num_blocks,
            "num_microbatches": settings.microbatches,
        }
        chosen = facts | {name: value for name, value in given.items() if value is not None}
        return replace(cls(), **chosen)  # type: ignore[arg-type]

    @property
    def shape(self) -> MambaShape:
        return MambaShape(d_model=self.d_model, num_blocks=self.num_blocks)

    @property
    def bounds(self) -> tuple[int, ...]:
        """Of the stages: 0, …, num_blocks."""
        stages = range(self.num_stages + 1)
        return tuple(stage * self.num_blocks // self.num_stages for stage in stages)

    @property
    def spans(self) -> tuple[str, ...]:
        pairs = zip(self.bounds, self.bounds[1:], strict=False)
        return tuple(f"{first}:{last}" for first, last in pairs)

    @property
    def step_tokens(self) -> int:
        return self.num_microbatches * self.microbatch_tokens

    @property
    def microbatch_tokens(self) -> int:
        """The last token of a sequence predicts nothing."""
        return self.batch_size * (self.length - 1)

    def run_flags(self, checkpoint_steps: int) -> list[str]:
        """Of `coordinator run`."""
        flags = {
            "stages": self.num_stages,
            "train-steps": self.num_steps,
            "microbatches": self.num_microbatches,
            "train-batch-size": self.batch_size,
            "train-length": self.length,
            "train-learning-rate": self.learning_rate,
            "wire-type": self.wire_type,
            "compute-type": self.compute_type,
            "checkpoint-steps": checkpoint_steps,
        }
        return [part for name, value in flags.items() for part in (f"--{name}", str(value))]

    def alone_flags(self) -> list[str]:
        """Of `alone`."""
        flags = {
            "bounds": ",".join(map(str, self.bounds)),
            "microbatches": self.num_microbatches,
            "batch-size": self.batch_size,
            "length": self.length,
            "learning-rate": self.learning_rate,
            "num-steps": self.num_steps,
        }
        return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


def fresh_base(folder: Path, sizes: Sizes, seed: int) -> RandomModel:
    """A model nobody trained, with the tied ends of one that will be. Raises SeshuError."""
    torch.manual_seed(seed)
    whole = WholeModel(sizes.shape).eval().requires_grad_(False)
    revision = checkpoints.save_checkpoint(
        folder,
        shape=sizes.shape,
        tensors=whole.checkpoint_tensors(),
        about={"parent": None, "round": 0, "num_steps": 0},
        card="# A bench's model\n\nRandom weights.\n",
    )
    return RandomModel(folder, revision, whole)


def write_text(path: Path, seed: int) -> Path:
    """Running text for trainers."""
    corpus = build([LANGUAGE], seed, documents_per_language=NUM_DOCUMENTS)
    rows = ({"text": one.text, "language": LANGUAGE} for one in corpus.documents[LANGUAGE])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
