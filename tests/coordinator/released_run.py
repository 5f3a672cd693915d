"""A run with published rounds, for tests of releases: real packages, ledger and reports, tiny model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from seshu_swarm import checkpoints
from seshu_swarm.coordinator.blind.judging import FinalWord
from seshu_swarm.coordinator.blind.scoring import Comparisons
from seshu_swarm.coordinator.rounds import report
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Judgement, Ledger
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.catalogue import write_catalogue
from seshu_swarm.data.holdout import Holdout
from seshu_swarm.data.text import Row
from seshu_swarm.evaluate.paired import Comparison, compare
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.packages import publish_folder
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord
from seshu_swarm.stores.references import Reference

SHAPE = MambaShape(d_model=32, num_blocks=2)
LANGUAGES = ("hi", "ta")
OWNER = "QmDonorWhoMustNotBeNamed"
HOSTILE = "NORM | too <script>large</script>\n# [x](http://evil) `a`"


@dataclass(frozen=True)
class Released:
    """A run, its ledger, and how to hold another round in it."""

    run: RunFolder
    ledger: Ledger

    @classmethod
    def opened(cls, path: Path, *, licence: str = "CC-BY-4.0") -> Released:
        run = RunFolder(path)
        path.mkdir(parents=True)
        ledger = Ledger(run.ledger)
        rows = {
            code: tuple(Row("translate", "one", f"एक {n}", code) for n in range(3))
            for code in LANGUAGES
        }
        fresh = run.packages / "catalogue"
        digest = write_catalogue(fresh, rows)
        publish_folder(fresh, run.package(digest))
        held = Holdout(rows={"hi": (Row("translate", "two", "दो", "hi"),)}, documents={})
        for role in (Role.FINAL, Role.GATE, Role.TUNING):
            HoldOuts(run, ledger.database).add(role, held)
        facts = {"run_id": "indic", "licence": licence, "catalogue": digest}
        for name, value in {**facts, "languages": list(LANGUAGES)}.items():
            ledger.set_fact(name, value)
        released = cls(run, ledger)
        ledger.set_fact("revision", released.checkpoint(seed=0, about={"parent": None, "round": 0}))
        return released

    def checkpoint(self, *, seed: int, about: dict[str, object]) -> str:
        torch.manual_seed(seed)
        fresh = self.run.packages / "fresh"
        tensors = WholeModel(SHAPE).checkpoint_tensors()
        digest = checkpoints.save_checkpoint(
            fresh, shape=SHAPE, tensors=tensors, about=about, card=""
        )
        publish_folder(fresh, self.run.package(digest))
        return digest

    def begin(self) -> int:
        parent = self.ledger.fact("revision")
        return self.ledger.begin_round(parent=parent, seed=1, closes_at=0.0).number

    def hand_in(self, digest: str, *, licence: str = "CC-BY-4.0") -> None:
        record = AdapterRecord(
            run_id="indic",
            reference=str(Reference.of_swarm(digest)),
            digest=digest,
            base_revision=self.ledger.fact("revision"),
            rank=4,
            language="hi",
            num_rows=1_234,
            licence=licence,
            round_index=len(self.ledger.rounds()),
        )
        number = len(self.ledger.rounds())
        data = record_bytes.to_bytes(record)
        self.ledger.add_adapter(digest, round_number=number, owner=OWNER, record=data)

    def publish(self, *, seed: int, licence: str = "CC-BY-4.0") -> str:
        """Hold a round that merges one adapter and rejects another; the new revision."""
        number = self.begin()
        accepted, rejected = f"{seed:02x}" * 32, f"{seed + 100:02x}" * 32
        self.hand_in(accepted, licence=licence)
        self.hand_in(rejected)
        current = self.ledger.round(number)
        recipe = {"parent": current.parent, "round": number, "method": "ties", "lambda": 0.5}
        recipe |= {"settings": {"density": 0.2}, "adapters": [[accepted, 1.0]]}
        revision = self.checkpoint(seed=seed, about=recipe)
        for state in list(RoundState)[1:6]:
            self.ledger.move_round(number, state)
        for role in (Role.GATE, Role.FINAL):
            held_out = HoldOuts(self.run, self.ledger.database).in_use(role).name
            Readings(self.ledger.database).note(held_out, f"round {number}")
        judgements = [
            Judgement(accepted, "accepted", "HELPED: it helps", "-0.020 bits per byte", ""),
            Judgement(rejected, "rejected", HOSTILE, "", "train longer"),
        ]
        self.ledger.end_round(
            self.ledger.round(number),
            RoundState.PUBLISHED,
            judgements=judgements,
            revision=revision,
        )
        folder = self.run.package(revision)
        found = report.published(self.ledger, self.ledger.round(number), folder, _word(number))
        report.write(self.run, found)
        return revision

    def abort(self) -> None:
        number = self.begin()
        self.ledger.end_round(
            self.ledger.round(number), RoundState.ABORTED, judgements=[], reason="no submissions"
        )
        report.write(self.run, report.aborted(self.ledger, self.ledger.round(number), "none"))


def _word(number: int) -> FinalWord:
    """Each round takes a tenth of a bit per byte, on 40 documents of 100 bytes."""
    level = {"hi": 2.0 - 0.1 * (number - 1), "ta": 1.5 - 0.1 * (number - 1)}
    gains = {language: _comparison(before) for language, before in level.items()}
    after = {language: before - 0.1 for language, before in level.items()}
    return FinalWord(Comparisons(gains=gains, harms=gains), level, after)


def _comparison(before: float) -> Comparison:
    current = np.full(40, before * 100 * np.log(2))
    return compare(
        current - 10 * np.log(2) + np.linspace(-1, 1, 40),
        current,
        num_bytes=[100] * 40,
        documents=[str(n) for n in range(40)],
    )
