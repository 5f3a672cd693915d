"""A run on the phrasebook with a small base, and rounds that were published without a swarm.

Adapters are real: the base is trained on, and the difference of the weights that adapters may
change is cut to a low rank.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from unittest import mock

import safetensors.torch
import torch

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.delta import Delta, LowRankDelta
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.rules import CONFIG_FILE, TARGETS, TENSOR_FILE, AdapterRules, module_name
from seshu_swarm.coordinator.config import OpenConfig, PretrainConfig
from seshu_swarm.coordinator.opening import command as opening
from seshu_swarm.coordinator.pretraining import command as pretraining
from seshu_swarm.coordinator.pretraining.training import (
    Earlier,
    PretrainSettings,
    TrainingText,
    pretrain,
)
from seshu_swarm.coordinator.releasing import publish
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.jsonl import document_of, read_items
from seshu_swarm.data.text import Corpus, Document
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord
from seshu_swarm.training.schedule import Schedule

LANGUAGES = ("hi", "ta")
RANK = 8
PREFIX = "base_model.model.backbone.layers"


@dataclass(frozen=True)
class Run:
    """A run folder with what tests ask of it."""

    folder: RunFolder

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder.ledger)

    @property
    def lineage(self) -> Lineage:
        return Lineage(self.ledger.database)

    @property
    def head(self) -> str:
        found = self.lineage.head()
        if found is None:
            raise LookupError("the run has no model")
        return found.revision

    def copy(self, path: Path) -> Run:
        shutil.copytree(self.folder.path, path)
        return Run(RunFolder(path))

    def text(self, language: str) -> list[Document]:
        path = self.folder.pretraining / f"{language}.jsonl"
        return read_items(path, document_of, bad_rows="refuse")

    def part(self, k: int) -> list[Document]:
        """The k-th forty documents of each language."""
        return [d for language in LANGUAGES for d in self.text(language)[40 * k : 40 * k + 40]]

    def tensors(self, revision: str) -> Mapping[str, torch.Tensor]:
        return checkpoints.load_tensors(self.folder.package(revision))


def opened(path: Path, *, steps: int = 60, languages: Iterable[str] = LANGUAGES) -> Run:
    """Opened on the phrasebook, and pretrained for some steps; the same text is held out each time."""
    settings = OpenConfig(
        state_dir=str(path),
        languages=tuple(languages),
        hold_out_rows=96,
        hold_out_documents=24,
    )
    with mock.patch.object(secrets, "token_bytes", Random(0).randbytes):
        opening.run(settings)
    return pretrained(path, steps=steps)


def pretrained(path: Path, *, steps: int = 60) -> Run:
    """The run opened there, with a small base that was trained for some steps."""
    pretraining.run(
        PretrainConfig(
            state_dir=str(path),
            d_model=32,
            num_blocks=2,
            length=128,
            learning_rate=0.01,
            max_steps=steps,
            max_threads=1,
        )
    )
    return Run(RunFolder(path))


def adapter_on(
    run: Run, documents: Iterable[Document], *, seed: int = 0, steps: int = 40, sign: float = 1.0
) -> str:
    """What training on the documents makes of the head, as an adapter package of the run."""
    base = run.head
    trained = run.folder.path / "trained"
    pretrain(
        checkpoints.read_shape(run.folder.package(base)),
        TrainingText(Corpus.of(documents, ()).documents),
        trained,
        settings=PretrainSettings(
            length=128, max_steps=steps, seed=seed, schedule=Schedule(learning_rate=0.003)
        ),
        earlier=Earlier(run.folder.package(base)),
    )
    before, after = run.tensors(base), checkpoints.load_tensors(trained)
    shutil.rmtree(trained)
    return _sealed(run, before, after, sign, base)


def _sealed(
    run: Run,
    before: Mapping[str, torch.Tensor],
    after: Mapping[str, torch.Tensor],
    sign: float,
    base: str,
) -> str:
    tensors = {}
    for block in range(checkpoints.read_shape(run.folder.package(base)).num_blocks):
        for target in TARGETS:
            name = module_name(block, target)
            difference = (after[f"{name}.weight"] - before[f"{name}.weight"]).double()
            U, S, V = torch.linalg.svd(difference, full_matrices=False)
            key = f"{PREFIX}.{block}.mixer.{target}"
            A, B = V[:RANK], sign * U[:, :RANK] * S[:RANK]
            tensors[f"{key}.lora_A.weight"] = A.float().contiguous()
            tensors[f"{key}.lora_B.weight"] = B.float().contiguous()
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": list(TARGETS),
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
    }
    folder = run.folder.packages / "sealing"
    folder.mkdir()
    (folder / TENSOR_FILE).write_bytes(safetensors.torch.save(tensors))
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    digest = packages.seal(folder, "adapter", [CONFIG_FILE, TENSOR_FILE], {"base_revision": base})
    packages.publish_folder(folder, run.folder.package(digest))
    return digest


def publish_round(run: Run, weights: Mapping[str, float], *, language: str = "hi") -> str:
    """A round that merged the adapters with these weights; its revision, the new head."""
    ledger, parent = run.ledger, run.head
    current = ledger.begin_round(parent=parent, seed=1, closes_at=0.0)
    shape = checkpoints.read_shape(run.folder.package(parent))
    deltas: dict[str, Delta] = {}
    for digest in weights:
        hand_in(run, digest, language=language)
        adapter = read_adapter(
            run.folder.adapter(digest), shape=shape, rules=AdapterRules(), digest=digest
        )
        deltas[digest] = LowRankDelta(adapter)
    mixture = Mixture.of(weights)
    ids = {digest: digest for digest in weights}
    recipe = publish.recipe_of(mixture, ids, parent=parent, round_number=current.number)
    revision = publish.write_merged(run.folder, mixture.delta(deltas), recipe)
    for state in list(RoundState)[1:6]:
        ledger.move_round(current.number, state)
    for digest in weights:
        ledger.judge(digest, state="accepted", reason="MERGED: it helps", gain="", next_step="")
    ledger.move_round(current.number, RoundState.PUBLISHED, revision=revision)
    run.lineage.add(revision, parent=parent, kind=Kind.ROUND, round_=current.number)
    return revision


def hand_in(run: Run, digest: str, *, language: str = "hi") -> None:
    """Note an adapter in the newest round, as its donor announces it."""
    ledger = run.ledger
    current = ledger.rounds()[-1]
    record = AdapterRecord(
        run_id=str(ledger.fact("run_id")),
        reference=f"swarm://sha256/{digest}",
        digest=digest,
        base_revision=current.parent,
        rank=RANK,
        language=language,
        num_rows=10,
        licence="CC0-1.0",
        round_index=current.number,
    )
    ledger.add_adapter(
        digest, round_number=current.number, owner="donor", record=record_bytes.to_bytes(record)
    )
