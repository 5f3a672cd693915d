"""A round under attack: real packages in a real run folder, read, screened, chosen from, gated.

Everything is the coordinator's own code; only the network and the processes are left away.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.delta import LowRankDelta
from seshu_swarm.adapters.merge.apply import apply
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.adapters.rules import CONFIG_FILE, KEY_PREFIX, TENSOR_FILE
from seshu_swarm.bench.rounds.world import World
from seshu_swarm.coordinator.blind.judging import budget_of, choose, decide
from seshu_swarm.coordinator.blind.search import SelectionRule
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.admitting import admit
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.evaluate.accept import AcceptRule, Verdict
from seshu_swarm.evaluate.bits import window_nats
from seshu_swarm.evaluate.paired import Comparison, compare
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.records import encoding as record_bytes
from tests.adapters.samples import lora_config
from tests.coordinator.test_intake import adapter as record_of

HONEST = {"hi": "MERGED", "ta": "MERGED", "bn": "MERGED"}
FORWARD = list(RoundState)[1:7]
Tensors = dict[str, torch.Tensor]
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Ended:
    """`names`: whom the attack was by → the name of the reason that its donor sees."""

    names: dict[str, str]
    mixture: Mixture
    members: tuple[str, ...]
    verdict: Verdict
    revision: Path


class Siege:
    """A run whose first round merged `earlier`, and whose second one takes adapters."""

    def __init__(self, folder: Path, world: World, earlier: dict[str, Adapter]) -> None:
        self.world, self.folder = world, RunFolder(folder)
        self.folder.packages.mkdir(parents=True)
        self.ledger = Ledger(self.folder.ledger)
        self.base = packages.read_manifest(world.base).digest
        shutil.copytree(world.base, self.folder.package(self.base))
        self._digests: dict[str, str] = {}
        self._hold_first(earlier)
        self.number = self._begin(self.base)

    def _hold_first(self, earlier: dict[str, Adapter]) -> None:
        """The base is what a round made of its parent: so the parent is the base without that."""
        deltas = {name: LowRankDelta(adapter) for name, adapter in earlier.items()}
        mixture = Mixture.of(dict.fromkeys(earlier, 1 / len(earlier)))
        parent = self._write(mixture, deltas, "parent", lam=-1.0)
        digest = packages.read_manifest(parent).digest
        packages.publish_folder(parent, self.folder.package(digest))
        self.number = self._begin(digest)
        for name, adapter in earlier.items():
            handed_in = self.hand_in(name, adapter)
            self.ledger.judge(handed_in, state="accepted", reason="MERGED", gain="", next_step="")
        for state in FORWARD:
            self.ledger.move_round(self.number, state, revision=self.base)

    def _begin(self, parent: str) -> int:
        later = time.time() + 60
        return self.ledger.begin_round(parent=parent, seed=1, closes_at=later).number

    def hand_in(
        self,
        name: str,
        adapter: Adapter,
        *,
        language: str = "hi",
        owner: str = "",
        change: Change | None = None,
        config: dict[str, Any] | None = None,
        about: dict[str, Any] | None = None,
    ) -> str:
        """Write and announce a package; `change` is made after it was sealed. Its digest."""
        fresh = self.folder.path / "fresh"
        fresh.mkdir()
        base = self.ledger.round(self.number).parent
        (fresh / TENSOR_FILE).write_bytes(safetensors.torch.save(tensors_of(adapter)))
        table = lora_config(r=adapter.rank, lora_alpha=adapter.scale * adapter.rank)
        (fresh / CONFIG_FILE).write_text(json.dumps(table | (config or {})))
        facts = {"base_revision": base, "by": name} | (about or {})
        if change is not None:
            change(fresh)
        digest = packages.seal(fresh, "adapter", [CONFIG_FILE, TENSOR_FILE], facts)
        packages.publish_folder(fresh, self.folder.adapter(digest))
        data = record_bytes.to_bytes(record_of(digest, language=language, base_revision=base))
        self.ledger.add_adapter(digest, round_number=self.number, owner=owner or name, record=data)
        self._digests[name] = digest
        return digest

    def hand_in_honest(self) -> None:
        for language, adapter in self.world.honest.items():
            self.hand_in(language, adapter, language=language)

    def path_of(self, name: str) -> Path:
        """The package of whom that name stands for, to be changed after it was announced."""
        return self.folder.adapter(self._digests[name])

    def screened(self) -> dict[str, str]:
        """Who falls before anything is scored, and as what."""
        self._admitted()
        waiting = self.waiting()
        here = {a.digest for a in self.ledger.adapters(self.number)}
        fallen = {n: d for n, d in self._digests.items() if d in here and n not in waiting}
        return {name: self._name(digest, {}) for name, digest in fallen.items()}

    def waiting(self) -> list[str]:
        """Whose adapters of this round are neither accepted nor rejected."""
        found = {a.digest: a.state for a in self.ledger.adapters(self.number)}
        return [name for name, digest in self._digests.items() if found.get(digest) == "pending"]

    def _admitted(self) -> dict[str, Adapter]:
        read = gather.read_all(
            self.ledger,
            self.ledger.round(self.number),
            rule=gather.ReadRule(shape_of(self.world), max_rank=64, max_adapters=64),
            folder_of=self.folder.adapter,
        )
        return admit(self.ledger, self.folder, self.number, read).adapters

    def hold(self) -> Ended:
        """The round, to its end."""
        adapters = self._admitted()
        ids = gather.strip_names(list(adapters), self.ledger.round(self.number).seed)
        candidates = {name: adapters[digest] for name, digest in ids.items()}
        rule = AcceptRule()
        selection = choose(
            self.world.base,
            self.world.tuning,
            candidates,
            languages=gather.languages_of(self.ledger, ids),
            rule=SelectionRule(
                budget=budget_of(len(candidates)),
                min_gain=RunConfig().min_gain,
                no_harm=rule.no_harm_margin / 4,
            ),
        )
        assert selection.void is None
        gate = self.world.gate(0)
        mixture = selection.mixture
        word = decide(self.world.base, gate, candidates, mixture, test_index=1, rule=rule)
        deltas = {name: LowRankDelta(adapter) for name, adapter in candidates.items()}
        by_digest = {ids[name]: reason.name for name, reason in selection.reasons.items()}
        here = {a.digest for a in self.ledger.adapters(self.number)}
        names = {n: self._name(d, by_digest) for n, d in self._digests.items() if d in here}
        members = [n for n, d in self._digests.items() if d in {ids[i] for i in mixture.ids}]
        return Ended(
            names,
            mixture,
            tuple(sorted(members)),
            word.verdict,
            self._write(mixture, deltas, "merged", lam=1.0),
        )

    def _name(self, digest: str, chosen: dict[str, str]) -> str:
        found = self.ledger.adapter(digest)
        assert found is not None
        if digest in chosen:
            return chosen[digest]
        assert found.state == "rejected" and found.next_step
        return found.reason.partition(":")[0]

    def _write(
        self, mixture: Mixture, deltas: dict[str, LowRankDelta], name: str, *, lam: float
    ) -> Path:
        tensors = checkpoints.load_tensors(self.world.base)
        merged = mixture.delta(dict(deltas)) if mixture.shares else {}
        tensors |= apply(tensors, merged, lam)
        path, shape = self.folder.path / name, shape_of(self.world)
        checkpoints.save_checkpoint(path, shape=shape, tensors=tensors, about={}, card="")
        return path


def shape_of(world: World) -> MambaShape:
    return checkpoints.read_shape(world.base)


def tensors_of(adapter: Adapter) -> Tensors:
    """As peft writes them."""
    return {
        f"{KEY_PREFIX}{module}.lora_{factor}.weight": tensor.float().clone()
        for module, pair in adapter.pairs.items()
        for factor, tensor in zip("AB", pair, strict=True)
    }


def nats_of(world: World, checkpoint: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Of every answer of the final split, by language."""
    model = checkpoints.load_whole(checkpoint).eval()
    return {name: window_nats(model, found) for name, found in world.final.rows.items()}


def difference(world: World, first: Path, second: Path) -> dict[str, Comparison]:
    """Bits per byte of the first minus the second on the final split, by language."""
    mine, theirs = nats_of(world, first), nats_of(world, second)
    return {
        name: compare(
            mine[name],
            theirs[name],
            num_bytes=[window.num_bytes for window in found],
            documents=[window.document for window in found],
        )
        for name, found in world.final.rows.items()
    }
