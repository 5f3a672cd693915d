"""The merges since a training boundary, and a checkpoint that repeats them without some adapter.

A revocation's manifest holds what makes it: `replayed_from` (the boundary's revision), `recipes`
(those of the rounds, in their order, each with the adapters that stay and the shares they had),
`revoked`, and `parent`, the head that it follows. Knows neither ledger nor hold-outs; what it needs
of packages lies in the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.clipping import clipped
from seshu_swarm.adapters.delta import Delta, LowRankDelta
from seshu_swarm.adapters.merge.apply import apply
from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.rules import AdapterRules
from seshu_swarm.coordinator.releasing.publish import mixture_of
from seshu_swarm.coordinator.state.lineage import Kind, Revision
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import PackageError
from seshu_swarm.mamba.shape import MambaShape

METHOD = "revocation"

Recipe = Mapping[str, Any]


def recipes_by_revision(run: RunFolder, line: Sequence[Revision]) -> dict[str, list[Recipe]]:
    """Each revision since the boundary, which `line` begins with → the merges it was made by.

    Raises PackageError where a checkpoint is no longer in the run's folder.
    """
    found: dict[str, list[Recipe]] = {line[0].revision: []}
    merges: list[Recipe] = []
    for revision in line[1:]:
        about = packages.read_manifest(run.package(revision.revision), revision.revision).about
        merges = list(about["recipes"]) if revision.kind is Kind.REVOCATION else [*merges, about]
        found[revision.revision] = merges
    return found


def adapters_of(recipes: Iterable[Recipe]) -> set[str]:
    """Digests of all adapters that the recipes merge."""
    return {digest for recipe in recipes for digest in mixture_of(recipe).ids}


def without(recipes: Iterable[Recipe], revoked: str) -> list[Recipe]:
    """The recipes without one adapter, the others' shares as they were; an empty one is left out."""
    left = [
        {**recipe, "adapters": [pair for pair in recipe["adapters"] if pair[0] != revoked]}
        for recipe in recipes
    ]
    return [recipe for recipe in left if recipe["adapters"]]


def rebuild(run: RunFolder, about: Recipe, folder: Path) -> str:
    """Write the checkpoint of a revocation's manifest into `folder`, without a card; its digest.

    Raises PackageError where the boundary's checkpoint or an adapter is missing or was changed.
    """
    base = run.package(str(about["replayed_from"]))
    packages.verify(base, base.name)
    shape = checkpoints.read_shape(base)
    tensors = checkpoints.load_tensors(base)
    for recipe in about["recipes"]:
        # Rounded after each merge, as each round did.
        tensors |= apply(tensors, delta_of(run, recipe, shape), 1.0)
    return checkpoints.save_checkpoint(
        folder, shape=shape, tensors=tensors, about=dict(about), card=""
    )


def delta_of(run: RunFolder, recipe: Recipe, shape: MambaShape) -> Delta:
    """The ΔW of one round's recipe, from the adapters in the run's folder. Raises PackageError."""
    mixture = mixture_of(recipe)
    deltas: dict[str, Delta] = {}
    for digest in mixture.ids:
        folder = run.adapter(digest)
        if not folder.is_dir():
            raise PackageError(
                f"adapter {digest} of round {recipe.get('round')} is not in {run.packages}",
                rule="a replay needs every adapter that stays",
                way_out="copy its folder there from a backup, or from a peer that holds it",
            )
        adapter = read_adapter(folder, shape=shape, rules=AdapterRules(), digest=digest)
        if "max_norm" in recipe:
            adapter = clipped(adapter, max_norm=float(recipe["max_norm"]))
        deltas[digest] = LowRankDelta(adapter)
    return mixture.delta(deltas)
