"""A small world in which rounds are held: a base that was really trained, rows that nobody trains
on, and one honest donor for each language.

Text is the built-in phrasebook. Gate sets are drawn from a pool, one after another, as a run draws
a new one when the old one was read too often.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from seshu_swarm import checkpoints
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.bench.rounds.lora import row_batches, trained_adapter
from seshu_swarm.coordinator.blind.scoring import HeldOut
from seshu_swarm.data.batches import pack_documents
from seshu_swarm.data.holdout import Holdout
from seshu_swarm.data.phrasebook import build
from seshu_swarm.data.splits import Splits, SplitSizes, split
from seshu_swarm.data.text import Row
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.windows import windows_of_documents, windows_of_rows
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.training.feeding import TextBatches, interleaved
from seshu_swarm.training.loop import train
from seshu_swarm.training.schedule import Budget, Schedule

MAX_CONTEXT_TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the world is; the defaults take half a minute on one core.

    `base_rows_share` of the base's steps saw rows, the others running text.
    """

    languages: tuple[str, ...] = ("hi", "ta", "bn", "te")
    d_model: int = 32
    num_blocks: int = 2
    base_steps: int = 300
    base_rows_share: float = 0.15
    adapter_steps: int = 80
    tuning_rows: int = 40
    tuning_documents: int = 3
    gate_rows: int = 240
    gate_documents: int = 30
    final_rows: int = 120
    final_documents: int = 10
    pool_rows: int = 500
    pool_documents: int = 60
    seed: int = 0

    @property
    def shape(self) -> MambaShape:
        return MambaShape(d_model=self.d_model, num_blocks=self.num_blocks)


class World:
    """Everything is made on first use, by the seed; the base lies in `folder`."""

    def __init__(self, folder: Path, sizes: Sizes | None = None) -> None:
        self.folder, self.sizes = folder, sizes or Sizes()

    @cached_property
    def splits(self) -> Splits:
        sizes = self.sizes
        corpus = build(sizes.languages, sizes.seed, documents_per_language=400)
        secret = sizes.seed.to_bytes(32, "big")
        return split(
            corpus,
            languages=sizes.languages,
            secret=secret,
            sizes=SplitSizes(
                tuning_rows=sizes.tuning_rows,
                gate_rows=sizes.pool_rows,
                final_rows=sizes.final_rows,
                tuning_documents=sizes.tuning_documents,
                gate_documents=sizes.pool_documents,
                final_documents=sizes.final_documents,
                minimum_documents=1,
                max_held_share=0.6,
            ),
        )

    @cached_property
    def base(self) -> Path:
        """A checkpoint, trained on running text and on rows that no donor has.

        A base that has hardly seen a row is helped by many a change that knows nothing of them.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.sizes.seed)
            model = WholeModel(self.sizes.shape)
        budget = Budget(max_steps=self.sizes.base_steps)
        rows = [row for language in self.sizes.languages for row in self._rows(language)[0]]
        batches = interleaved(
            self.text(), row_batches(rows, self.sizes.seed), self.sizes.base_rows_share
        )
        train(model, batches, schedule=Schedule(learning_rate=0.01), budget=budget)
        path = self.folder / "base"
        tensors = model.checkpoint_tensors()
        checkpoints.save_checkpoint(path, shape=model.shape, tensors=tensors, about={}, card="")
        return path

    def _rows(self, language: str) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        """Rows that the base has seen, and rows that its donor has."""
        rows = self.splits.shards[language]
        return rows[: len(rows) // 2], rows[len(rows) // 2 :]

    def text(self, seed: int = 0) -> TextBatches:
        """Microbatches of running text that may be trained on."""
        rng = np.random.default_rng(self.sizes.seed)
        sequences = {
            language: pack_documents(ByteTokeniser(), documents, 256, rng)
            for language, documents in self.splits.pretrain.items()
        }
        return TextBatches(sequences, batch_size=8, seed=seed)

    @cached_property
    def honest(self) -> dict[str, Adapter]:
        """Language → the adapter of a donor who has rows of that language only."""
        return {
            language: trained_adapter(
                self.base,
                self._rows(language)[1],
                self.text(number),
                steps=self.sizes.adapter_steps,
                seed=self.sizes.seed + number,
            )
            for number, language in enumerate(self.sizes.languages, start=1)
        }

    @cached_property
    def tuning(self) -> HeldOut:
        return windows_of(self.splits.tuning)

    @cached_property
    def final(self) -> HeldOut:
        return windows_of(self.splits.final)

    def gate(self, number: int) -> HeldOut:
        """Gate set of this number: rows and documents drawn from the pool."""
        rng = random.Random(f"gate {self.sizes.seed} {number}")
        pool, sizes = self.splits.gate, self.sizes
        rows = {n: tuple(rng.sample(f, min(len(f), sizes.gate_rows))) for n, f in pool.rows.items()}
        documents = {
            name: tuple(rng.sample(found, min(len(found), sizes.gate_documents)))
            for name, found in pool.documents.items()
        }
        return windows_of(Holdout(rows, documents))


def windows_of(found: Holdout) -> HeldOut:
    """Answers and running text as windows to score."""
    tokeniser = ByteTokeniser()
    rows = {
        name: windows_of_rows(tokeniser, items, max_context_tokens=MAX_CONTEXT_TOKENS)
        for name, items in found.rows.items()
    }
    text = {
        name: windows_of_documents(tokeniser, items, max_context_tokens=MAX_CONTEXT_TOKENS)
        for name, items in found.documents.items()
    }
    return HeldOut(rows, text)
