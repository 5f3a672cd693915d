"""A recipe read back from a manifest makes the same weights, bit for bit, by every method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.delta import Delta, LowRankDelta
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.merge.registry import MERGE_METHODS, MergeMethod
from seshu_swarm.coordinator.releasing import publish
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import PackageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from tests.adapters.samples import made

# Digests in the opposite order of the random ids, as happens in half of all rounds of two.
IDS = {"a": "ff" * 32, "b": "77" * 32, "c": "00" * 32}
SHARES = (("a", 0.5), ("b", 0.3), ("c", 0.2))
# Not the methods' own, so that settings that were lost show.
SETTINGS = {
    "norm_clipped_mean": {"max_norm": 0.5},
    "centred_clip": {"num_iterations": 2, "radius": 0.7},
    "ties": {"density": 0.45},
    "dare_linear": {"density": 0.3, "seed": 7},
    "dare_ties": {"density": 0.3, "seed": (1 << 48) - 1},
}
CARRIED_OUT = [method for method in MERGE_METHODS if not method.needs_score]


def mixture_by(method: MergeMethod) -> Mixture:
    settings = SETTINGS.get(method.name, {})
    assert set(settings) == set(method.settings)
    return Mixture(SHARES, 0.7, method.name, tuple(sorted(settings.items())))


def through_a_manifest(recipe: dict[str, Any]) -> dict[str, Any]:
    written = packages.Manifest("checkpoint", {}, recipe).to_bytes()
    return packages.parse_manifest(written).about


@pytest.mark.parametrize("method", CARRIED_OUT, ids=lambda m: m.name)
def test_a_recipe_gives_the_same_bits(method: MergeMethod, tmp_path: Path) -> None:
    by_id: dict[str, Delta] = {n: LowRankDelta(made(tmp_path / n, seed=ord(n))) for n in "abc"}
    by_digest = {IDS[name]: delta for name, delta in by_id.items()}
    mixture = mixture_by(method)
    recipe = publish.recipe_of(mixture, IDS, parent="0" * 64, round_number=3)
    again = publish.mixture_of(through_a_manifest(recipe))
    assert again.ids == tuple(IDS.values()) and again.settings == mixture.settings
    merged, replayed = mixture.delta(by_id), again.delta(by_digest)
    assert list(merged) == list(replayed)
    assert all(torch.equal(merged[name], replayed[name]) for name in merged)


def test_the_order_of_a_recipe_matters(tmp_path: Path) -> None:
    """What a table with sorted keys would lose: which adapter a mask of DARE falls on."""
    deltas: dict[str, Delta] = {
        digest: LowRankDelta(made(tmp_path / name, seed=ord(name))) for name, digest in IDS.items()
    }
    ordered = tuple((IDS[name], share) for name, share in SHARES)
    settings = (("density", 0.3), ("seed", 7))
    one, other = (
        Mixture(shares, 0.7, "dare_linear", settings).delta(deltas)
        for shares in (ordered, tuple(sorted(ordered)))
    )
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_made_again_has_the_same_digest(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    shape = MambaShape(d_model=8, num_blocks=2, vocab_size=260, d_state=4, dt_rank=1)
    torch.manual_seed(0)
    parent = checkpoints.save_checkpoint(
        tmp_path / "base",
        shape=shape,
        tensors=WholeModel(shape).checkpoint_tensors(),
        about={},
        card="",
    )
    run.packages.mkdir()
    packages.publish_folder(tmp_path / "base", run.package(parent))
    deltas = {name: LowRankDelta(made(tmp_path / name, seed=ord(name))) for name in "abc"}
    method = next(m for m in CARRIED_OUT if m.name == "dare_ties")
    mixture = mixture_by(method)
    recipe = publish.recipe_of(mixture, IDS, parent=parent, round_number=1)
    digest = publish.write_merged(run, mixture.delta(deltas), recipe)
    read = packages.read_manifest(run.package(digest)).about
    by_digest = {IDS[name]: delta for name, delta in deltas.items()}
    delta = publish.mixture_of(read).delta(by_digest)
    assert publish.write_checkpoint(run, delta, read, tmp_path / "again") == digest


@pytest.mark.parametrize(
    "change",
    [
        {"adapters": {"00" * 32: 1.0}},
        {"adapters": [["00" * 32]]},
        {"adapters": [["00" * 32, "1"]]},
        {"settings": [0.5]},
        {"settings": {"density": True}},
        {"lambda": 1e999},
        {"method": None, "lambda": None},
    ],
    ids=str,
)
def test_what_is_no_recipe_is_refused(change: dict[str, Any]) -> None:
    recipe = publish.recipe_of(Mixture(SHARES), IDS, parent="0" * 64, round_number=1)
    assert publish.mixture_of(json.loads(json.dumps(recipe))).lam == 1.0
    with pytest.raises(PackageError, match="recipe"):
        publish.mixture_of({**recipe, **change})
