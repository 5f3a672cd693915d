"""The next checkpoint: written whole, with a card that says how it was made.

The manifest carries the recipe (parent, adapters by digest in the order in which they were merged,
shares, λ, method and its settings), so that anyone with the parent and the adapters can make it
again and get the same digest.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seshu_swarm import checkpoints
from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.apply import apply
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import PackageError, shown
from seshu_swarm.packages import publish_folder


def recipe_of(
    mixture: Mixture, ids: Mapping[str, str], *, parent: str, round_number: int
) -> dict[str, Any]:
    """What makes the checkpoint: JSON values only, adapters as [digest, share] in their order.

    A list, because a manifest sorts the keys of its tables: the order decides which sum is rounded
    first, and which adapter a random mask falls on.
    """
    return {
        "parent": parent,
        "round": round_number,
        "method": mixture.method,
        "settings": dict(mixture.settings),
        "lambda": mixture.lam,
        "adapters": [[ids[random_id], share] for random_id, share in mixture.shares],
    }


def mixture_of(recipe: Mapping[str, Any]) -> Mixture:
    """The mixture of a recipe, its adapters by digest. Raises PackageError for another table."""
    try:
        lam, method = _number(recipe["lambda"]), str(recipe["method"])
        settings = {str(name): _number(value) for name, value in recipe["settings"].items()}
        shares = tuple((str(digest), _number(share)) for digest, share in recipe["adapters"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PackageError(
            f"a recipe without a readable mixture: {error!r}"[:300],
            rule="method, settings, lambda, and adapters as [digest, share]",
            way_out="check that the checkpoint was made by a round",
        ) from None
    return Mixture(shares, lam, method, tuple(sorted(settings.items())))


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{shown(value)} is no finite number")
    # A seed stays whole.
    number: float = value
    return number


def write_merged(run: RunFolder, delta: Delta, recipe: dict[str, Any]) -> str:
    """Write W₀ + ΔW as a package of the run; its revision. Raises SeshuError."""
    fresh = run.packages / f"merging-round-{recipe['round']}"
    shutil.rmtree(fresh, ignore_errors=True)
    revision = write_checkpoint(run, delta, recipe, fresh)
    publish_folder(fresh, run.package(revision))
    return revision


def write_checkpoint(run: RunFolder, delta: Delta, recipe: dict[str, Any], folder: Path) -> str:
    """Write W₀ + ΔW into `folder`, without a card; its digest."""
    base = run.package(recipe["parent"])
    tensors = checkpoints.load_tensors(base)
    tensors |= apply(tensors, delta, 1.0)
    return checkpoints.save_checkpoint(
        folder, shape=checkpoints.read_shape(base), tensors=tensors, about=recipe, card=""
    )


def discard(run: RunFolder, revision: str) -> None:
    """Remove a checkpoint that was not published."""
    shutil.rmtree(run.package(revision), ignore_errors=True)
