"""From real packages and a real ledger to those that take part."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.controls import noise_control
from seshu_swarm.adapters.delta import LowRankDelta, adapter_norm, delta_of
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import Adapter, read_adapter
from seshu_swarm.adapters.sketch import cosine, sketch_of
from seshu_swarm.coordinator.releasing import publish
from seshu_swarm.coordinator.rounds import admitting, earlier
from seshu_swarm.coordinator.rounds.admitting import Admitted, admit
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import RoundError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.records import encoding as record_bytes
from tests.adapters.samples import RULES, lora_tensors, write_adapter
from tests.coordinator.test_intake import adapter as record_of

SHAPE = MambaShape(d_model=8, num_blocks=2, vocab_size=260, d_state=4, dt_rank=1)
FORWARD = list(RoundState)[1:7]


class Run:
    """A run folder with a base, and rounds that take adapters."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.folder.packages.mkdir(parents=True)
        self.ledger = Ledger(self.folder.ledger)
        torch.manual_seed(0)
        tensors = WholeModel(SHAPE).checkpoint_tensors()
        fresh = path / "fresh"
        self.head = checkpoints.save_checkpoint(
            fresh, shape=SHAPE, tensors=tensors, about={}, card=""
        )
        packages.publish_folder(fresh, self.folder.package(self.head))
        self.begin()

    def begin(self) -> None:
        round_ = self.ledger.begin_round(parent=self.head, seed=1, closes_at=time.time() + 60)
        self.number = round_.number

    def hand_in(self, seed: int, owner: str, *, times: float = 1.0, language: str = "hi") -> str:
        """An adapter of random factors, B multiplied; its digest."""
        tensors = lora_tensors(seed=seed)
        tensors |= {n: times * t for n, t in tensors.items() if "lora_B" in n}
        fresh = self.folder.path / "fresh"
        digest = write_adapter(fresh, tensors, about={"note": f"{owner} {times} {language}"})
        packages.publish_folder(fresh, self.folder.adapter(digest))
        data = record_bytes.to_bytes(record_of(digest, language=language, base_revision=self.head))
        assert self.ledger.add_adapter(digest, round_number=self.number, owner=owner, record=data)
        return digest

    def read(self) -> dict[str, Adapter]:
        found = [a.digest for a in self.ledger.adapters(self.number)]
        return {
            d: read_adapter(self.folder.adapter(d), shape=SHAPE, rules=RULES, digest=d)
            for d in found
        }

    def admit(self) -> Admitted:
        return admit(self.ledger, self.folder, self.number, self.read())

    def reason(self, digest: str) -> tuple[str, str]:
        """State, and the name of the reason."""
        found = self.ledger.adapter(digest)
        assert found is not None and (found.state == "pending" or found.next_step)
        return found.state, found.reason.partition(":")[0]

    def publish(self, shares: dict[str, float]) -> None:
        """Merge adapters into the next base; the round's other adapters stay as they are."""
        deltas = {digest: LowRankDelta(a) for digest, a in self.read().items() if digest in shares}
        mixture = Mixture.of(shares)
        ids = {digest: digest for digest in shares}
        recipe = publish.recipe_of(mixture, ids, parent=self.head, round_number=self.number)
        revision = publish.write_merged(self.folder, mixture.delta(deltas), recipe)
        for digest in shares:
            self.ledger.judge(digest, state="accepted", reason="MERGED", gain="", next_step="go on")
        for state in FORWARD:
            self.ledger.move_round(self.number, state, revision=revision)
        self.head = revision
        self.begin()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_the_refused_learn_why_and_the_others_wait(run: Run) -> None:
    one, two = run.hand_in(1, "a"), run.hand_in(2, "b")
    copy = run.hand_in(1, "thief", times=2.0)
    tiny = run.hand_in(3, "lazy", times=1e-4)
    admitted = run.admit()
    assert set(admitted.adapters) == {one, two}
    assert run.reason(one) == run.reason(two) == ("pending", "")
    assert run.reason(copy) == ("rejected", "DUPLICATE")
    assert run.reason(tiny) == ("rejected", "FREE_RIDER")


def test_a_boosted_adapter_is_scaled_to_the_limit_and_the_others_keep_their_bits(run: Run) -> None:
    honest = [run.hand_in(seed, f"donor-{seed}") for seed in (1, 2, 3)]
    boosted = run.hand_in(4, "booster", times=50.0)
    read, admitted = run.read(), run.admit()
    # By hand: the mean of the two middle ones of four norms, twice.
    norms = sorted(adapter_norm(a) for a in read.values())
    assert admitted.max_norm == pytest.approx(norms[1] + norms[2])
    assert all(admitted.adapters[digest] is not None for digest in honest)
    for digest in honest:
        before, after = delta_of(read[digest]), delta_of(admitted.adapters[digest])
        assert all(torch.equal(before[name], after[name]) for name in before)
    before, after = delta_of(read[boosted]), delta_of(admitted.adapters[boosted])
    factor = admitted.max_norm / norms[-1]
    assert factor < 0.1
    assert all(torch.allclose(factor * before[n], after[n], rtol=1e-12) for n in before)


def test_what_was_accepted_before_falls_even_when_it_looks_new(run: Run) -> None:
    one, two = run.hand_in(1, "a"), run.hand_in(2, "b")
    rejected = run.hand_in(3, "c")
    run.admit()
    run.ledger.judge(rejected, state="rejected", reason="NO_GAIN", gain="", next_step="train on")
    run.publish({one: 0.5, two: 0.25})
    old = run.hand_in(1, "free rider", times=0.3)
    again = run.hand_in(3, "c", times=1.1)
    fresh = run.hand_in(4, "d")
    # The sketches come from the ledger, or, where it has lost them, from the packages.
    for name in ("", f"sketch-{one}"):
        if name:
            run.ledger.set_fact(name, None)
        run.ledger.forget_verdicts(run.number)
        assert set(run.admit().adapters) == {again, fresh}
        assert run.reason(old) == ("rejected", "COPY_OF_EARLIER")


def test_the_sketch_of_a_round_is_that_of_its_mixture(run: Run) -> None:
    one, two = run.hand_in(1, "a"), run.hand_in(2, "b")
    by_hand = {d: sketch_of(a) for d, a in run.read().items()}
    run.publish({one: 0.5, two: 0.25})
    found = earlier.earlier_sketches(run.ledger, run.folder, before=run.number)
    assert len(found) == 3 and set(found) >= {"what round 1 merged"}
    merged = found["what round 1 merged"]
    expected = 0.5 * by_hand[one] + 0.25 * by_hand[two]
    np.testing.assert_allclose(merged, expected, rtol=1e-4, atol=1e-5)
    assert all(cosine(merged, sketch) < 0.95 for sketch in by_hand.values())


def test_a_package_that_is_gone_is_passed_over(run: Run) -> None:
    one = run.hand_in(1, "a")
    run.publish({one: 0.5})
    (run.folder.adapter(one) / "manifest.json").unlink()
    found = earlier.earlier_sketches(run.ledger, run.folder, before=run.number)
    assert list(found) == ["what round 1 merged"]


def test_a_round_whose_planted_copy_is_not_seen_is_void(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.hand_in(1, "a")
    run.admit()
    # A control that has gone wrong: another ΔW instead of the same in other factors.
    monkeypatch.setattr(admitting, "duplicate_control", lambda a: noise_control(a, seed=0))
    with pytest.raises(RoundError, match="DUPLICATE_MISSED"):
        run.admit()


def test_nobody_handed_in(run: Run) -> None:
    assert run.admit() == Admitted({}, 0.0)
