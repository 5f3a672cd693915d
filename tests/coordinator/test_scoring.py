"""Scores of merged weights on a real small model, and the base restored bit for bit."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.adapters.controls import noise_control, null_control
from seshu_swarm.adapters.delta import LowRankDelta
from seshu_swarm.adapters.merge.apply import apply_in_place, apply_one
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.coordinator.blind.base import Base
from seshu_swarm.coordinator.blind.scoring import HeldOut, Scorer, comparisons_of
from seshu_swarm.coordinator.blind.search import SelectionRule
from seshu_swarm.coordinator.blind.selecting import Controls, select
from seshu_swarm.data.windows import Window
from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.evaluate.bits import window_nats
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

SHAPE = MambaShape(d_model=16, num_blocks=2, vocab_size=32, d_state=4, dt_rank=1)
IN_PROJ = "backbone.layers.0.mixer.in_proj"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model() -> WholeModel:
    torch.manual_seed(0)
    return WholeModel(SHAPE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The model as a checkpoint, with a zero whose sign a sum would lose."""
    model = make_model()
    with torch.no_grad():
        model.checkpoint_tensors()[f"{IN_PROJ}.weight"][0, 0] = -0.0
    tensors = model.checkpoint_tensors()
    path = tmp_path / "base"
    checkpoints.save_checkpoint(path, shape=SHAPE, tensors=tensors, about={}, card="", tokeniser={})
    return path


def make_windows(language: str, count: int, *, seed: int) -> list[Window]:
    """Text of four letters that belong to the language, in an order that can be learnt."""
    rng = np.random.default_rng(seed)
    first = {"hi": 4, "ta": 12}[language]
    found = []
    for i in range(count):
        start = int(rng.integers(0, 4))
        ids = tuple(first + (start + t) % 4 for t in range(13))
        found.append(Window(f"{language}{i // 2}", ids, 3, 20))
    return found


def held_out(seed: int = 1) -> HeldOut:
    languages = ("hi", "ta")
    return HeldOut(
        rows={language: make_windows(language, 12, seed=seed) for language in languages},
        text={language: make_windows(language, 6, seed=seed + 10) for language in languages},
    )


def bits(model: WholeModel) -> dict[str, bytes]:
    return {n: t.detach().numpy().tobytes() for n, t in model.checkpoint_tensors().items()}


def random_adapter(seed: int, scale: float = 0.1) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for block_index in range(SHAPE.num_blocks):
        for target, rows, columns in (("in_proj", 64, 16), ("out_proj", 16, 32)):
            pairs[f"backbone.layers.{block_index}.mixer.{target}"] = (
                torch.randn(2, columns, generator=generator),
                torch.randn(rows, 2, generator=generator),
            )
    return Adapter("0" * 64, 2, scale, pairs)


def trained(language: str, sign: float = 1.0) -> Adapter:
    """Rank-two LoRA on in_proj, a few real gradient steps on one language."""
    model, windows = make_model(), make_windows(language, 32, seed=99)
    ids_BL = torch.tensor([window.ids for window in windows])
    weights = {n: t for n, t in model.checkpoint_tensors().items() if n.endswith("in_proj.weight")}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=3e-3)
    for _ in range(20):
        logits_BLV = model.logits(ids_BL[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits_BLV.flatten(0, 1), ids_BL[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pairs = {}
    for name, weight in weights.items():
        left, values, right = torch.linalg.svd(weight.detach() - before[name], full_matrices=False)
        pairs[name.removesuffix(".weight")] = (right[:4], sign * left[:, :4] * values[:4])
    return Adapter("0" * 64, 4, 1.0, pairs)


def test_score_is_that_of_a_model_merged_elsewhere(folder: Path) -> None:
    sets, adapter = held_out(), random_adapter(1)
    merged = checkpoints.load_whole(folder)
    with torch.no_grad():
        for module, (A, B) in adapter.pairs.items():
            weight = merged.checkpoint_tensors()[f"{module}.weight"]
            weight.copy_((weight.double() + 0.5 * 0.1 * (B.double() @ A.double())).float())
    scores = Scorer(Base(folder), sets).score(LowRankDelta(adapter), lam=0.5)
    for language in ("hi", "ta"):
        np.testing.assert_array_equal(
            scores.rows[language], window_nats(merged, sets.rows[language])
        )
        np.testing.assert_array_equal(
            scores.text[language], window_nats(merged, sets.text[language])
        )


def test_base_is_restored_bit_for_bit(folder: Path) -> None:
    base, before = Base(folder), bits(checkpoints.load_whole(folder))
    scorer = Scorer(base, held_out())
    first = scorer.score(None)
    for lam in (0.0, 0.3, 1e6):
        scores = scorer.score(LowRankDelta(random_adapter(2)), lam=lam)
        assert bits(base.model) == before
        assert (scores.rows["hi"] == first.rows["hi"]).all() == (lam == 0.0)


def test_base_is_restored_after_errors(folder: Path) -> None:
    base = Base(folder)
    before = bits(base.model)
    delta = LowRankDelta(random_adapter(2))
    with pytest.raises(ZeroDivisionError), base.with_delta(delta):
        assert bits(base.model) != before
        raise ZeroDivisionError
    assert bits(base.model) == before
    # The first matrices fit and are applied, the last one does not.
    for name in ("backbone.norm_f.weight", "backbone.unknown.weight"):
        misfit = {**dict(delta), name: torch.zeros(3, 3)}
        with pytest.raises(UsageError, match=name), base.with_delta(misfit):
            pass
    assert bits(base.model) == before


def test_a_matrix_of_many_rows_is_applied_whole() -> None:
    """Some rows at a time, as `apply_one` does it at once."""
    torch.manual_seed(1)
    weight, delta = torch.randn(1000, 3), torch.randn(1000, 3, dtype=torch.float64)
    wanted = apply_one(weight, delta, 0.3)
    apply_in_place(weight, delta, 0.3)
    assert torch.equal(weight, wanted)


def test_a_base_whose_files_went_away_says_so(folder: Path) -> None:
    base = Base(folder)
    with (
        pytest.raises(PackageError, match="not readable any more"),
        base.with_delta(LowRankDelta(random_adapter(2))),
    ):
        shutil.rmtree(folder)


def test_base_is_scored_once_and_never_from_changed_weights(folder: Path) -> None:
    base = Base(folder)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    base.model.span.register_forward_hook(count)
    scorer = Scorer(base, held_out())
    first = scorer.score(None)
    before = calls
    assert scorer.score(None) is first and scorer.score_mixture(Mixture()) is first
    assert calls == before > 0


def test_mixture_is_the_weighted_sum(folder: Path) -> None:
    sets = held_out()
    one, two = (LowRankDelta(random_adapter(seed)) for seed in (3, 4))
    scorer = Scorer(Base(folder), sets, {"x": one, "y": two})
    by_hand = {name: 0.3 * one[name] + 0.1 * two[name] for name in one}
    mixed = scorer.score_mixture(Mixture.of({"x": 0.3, "y": 0.1}))
    np.testing.assert_allclose(mixed.rows["ta"], scorer.score(by_hand).rows["ta"], rtol=1e-6)


def total_bits(nats: Sequence[float], windows: Sequence[Window]) -> float:
    return sum(nats) / math.log(2) / sum(window.num_bytes for window in windows)


def test_tuning_score_and_comparisons_have_the_right_signs(folder: Path) -> None:
    sets = held_out()
    scorer = Scorer(Base(folder), sets, {"hi": LowRankDelta(trained("hi"))})
    mixture = Mixture.of({"hi": 1.0})
    tuning, scores = scorer.tuning_score(mixture), scorer.score_mixture(mixture)
    base = scorer.base
    for language in ("hi", "ta"):
        windows = sets.rows[language]
        gain = total_bits(base.rows[language].tolist(), windows) - total_bits(
            scores.rows[language].tolist(), windows
        )
        assert tuning.gain[language] == pytest.approx(gain, rel=1e-9)
        windows = sets.text[language]
        harm = total_bits(scores.text[language].tolist(), windows) - total_bits(
            base.text[language].tolist(), windows
        )
        assert tuning.harm[language] == pytest.approx(harm, rel=1e-9)
    assert tuning.gain["hi"] > 0.05 and tuning.harm["hi"] < 0
    compared = scorer.compare(scores)
    assert compared == comparisons_of(sets, base=base, candidate=scores)
    assert compared.gains["hi"].delta_bits_per_byte == pytest.approx(-tuning.gain["hi"])
    assert compared.harms["ta"].delta_bits_per_byte == pytest.approx(tuning.harm["ta"])
    assert compared.gains["hi"].num_windows == 12 and compared.gains["hi"].num_documents == 6


def test_selection_on_a_real_model(folder: Path) -> None:
    useful = trained("hi")
    candidates = {
        "useful": useful,
        "flipped": trained("hi", sign=-1.0),
        "null": null_control(useful),
        "noise": noise_control(useful, seed=7),
    }
    scorer = Scorer(Base(folder), held_out(), {n: LowRankDelta(a) for n, a in candidates.items()})
    selection = select(
        scorer.tuning_score,
        [*candidates, "copy"],
        duplicates={"copy": "useful"},
        controls=Controls(null="null", noises=("noise",), duplicate="copy"),
        rule=SelectionRule(no_harm=1.0),
    )
    assert selection.void is None
    assert selection.chosen == ("useful",)
    assert selection.gain_bits_per_byte > 0.05
    assert not selection.reasons["flipped"].accepted
