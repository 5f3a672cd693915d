"""Who takes part in a recording, what is forged and how, and what is noted of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from seshu_swarm.adapters.delta import adapter_norm, delta_of
from seshu_swarm.adapters.reader import Adapter, read_adapter
from seshu_swarm.adapters.sketch import cosine, sketch_of
from seshu_swarm.coordinator.research.recording.crowd import (
    FORGED,
    Kind,
    crowd,
    num_rounds,
    round_size,
)
from seshu_swarm.coordinator.research.recording.forging import forge
from seshu_swarm.coordinator.research.recording.notes import NOTES_FILE, Notes
from seshu_swarm.errors import UsageError
from tests.adapters.samples import RULES, SHAPE, made

LANGUAGES = ("hi", "ta", "te")
BASE = "ef" * 32


@pytest.mark.parametrize("num_adapters", [4, 10, 11, 30, 64])
def test_rounds_are_alike_and_hold_at_least_what_was_asked_for(num_adapters: int) -> None:
    members = crowd(num_adapters, LANGUAGES, seed=1)
    sizes = Counter(member.round for member in members)
    assert set(sizes) == set(range(1, num_rounds(num_adapters) + 1))
    assert set(sizes.values()) == {round_size(num_adapters)} and max(sizes.values()) <= 10
    assert num_adapters <= len(members) < num_adapters + len(sizes)
    assert len({member.name for member in members}) == len(members)


def test_thirty_are_a_varied_crowd() -> None:
    members = crowd(30, LANGUAGES, seed=1)
    kinds = Counter(member.kind for member in members)
    assert set(kinds) == set(Kind) and kinds[Kind.HONEST] == 12
    assert sum(member.is_forged for member in members) == 9
    trained = [member for member in members if not member.is_forged]
    for name in ("language", "num_rows", "rank", "max_steps", "learning_rate", "replay_share"):
        assert len({getattr(member, name) for member in trained}) >= 2, name
    assert len({member.seed for member in trained}) == len(trained)
    for member in trained:
        assert (member.language != member.rows_language) == (member.kind is Kind.MISLABELLED)
    assert all(member.round > 1 for member in members if member.kind is Kind.OLD)
    assert members == crowd(30, LANGUAGES, seed=1) != crowd(30, LANGUAGES, seed=2)


@pytest.fixture
def honest(tmp_path: Path) -> Adapter:
    return made(tmp_path / "honest", seed=3)


def forged(folder: Path, adapter: Adapter, kind: Kind) -> Adapter:
    """What the strict reader makes of the forged package."""
    digest = forge(folder / "honest", adapter, kind, folder / kind, base_revision=BASE, seed=4)
    return read_adapter(folder / kind, shape=SHAPE, rules=RULES, digest=digest, base_revision=BASE)


@pytest.mark.parametrize(
    ("kind", "factor"),
    [
        (Kind.SIGN_FLIPPED, -1.0),
        (Kind.SCALED, 50.0),
        (Kind.FREE_RIDER, 1e-4),
        (Kind.OLD, 1.0),
        (Kind.DUPLICATE, 1.0),
    ],
)
def test_forged_adapters_are_multiples_of_honest_ones(
    tmp_path: Path, honest: Adapter, kind: Kind, factor: float
) -> None:
    found, expected = delta_of(forged(tmp_path, honest, kind)), delta_of(honest)
    for name, matrix in expected.items():
        # The factors are float32; a sum may cancel.
        assert torch.allclose(found[name] / factor, matrix, rtol=1e-5, atol=1e-5)


def test_noise_has_the_norm_and_nothing_else(tmp_path: Path, honest: Adapter) -> None:
    noise = forged(tmp_path, honest, Kind.NOISE)
    assert adapter_norm(noise) == pytest.approx(adapter_norm(honest), rel=1e-6)
    assert abs(cosine(sketch_of(noise), sketch_of(honest))) < 0.5


def test_every_forged_adapter_is_a_package_of_its_own(tmp_path: Path, honest: Adapter) -> None:
    digests = {forged(tmp_path, honest, kind).digest for kind in FORGED}
    assert len(digests) == len(FORGED) and honest.digest not in digests


def test_notes_outlive_the_process_and_hold_to_their_settings(tmp_path: Path) -> None:
    first, second, *_ = crowd(4, LANGUAGES, seed=1)
    notes = Notes(tmp_path, {"seed": 1})
    notes.add(first, digest="ab" * 32)
    notes.add(second, digest=None, why="the loss did not fall")
    again = Notes(tmp_path, {"seed": 1})
    assert [facts["name"] for facts in again.handed_in(1)] == [first.name]
    assert again.handed_in(1, Kind.OVERFIT) == again.handed_in(2) == []
    assert again.members[second.name]["why"] == "the loss did not fall"
    assert json.loads((tmp_path / NOTES_FILE).read_bytes())["settings"] == {"seed": 1}
    with pytest.raises(UsageError, match="was begun with"):
        Notes(tmp_path, {"seed": 2})
