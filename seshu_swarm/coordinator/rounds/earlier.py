"""Sketches of what was merged before: accepted adapters, and the last rounds as wholes.

A sketch is computed once and kept in the ledger; one that is missing is computed again from the
run's packages. What is no longer in the run's folder cannot be compared, and is passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from seshu_swarm import checkpoints
from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.rules import AdapterRules
from seshu_swarm.adapters.sketch import Sketch, sketch_of
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import SeshuError

logger = logging.getLogger(__name__)

ROUNDS_AS_WHOLES = 3  # an older round's whole ΔW has been trained over since


def earlier_sketches(ledger: Ledger, folder: RunFolder, before: int) -> dict[str, Sketch]:
    """What it is, in words for donors → its sketch, from all rounds before number `before`."""
    rounds = [r for r in ledger.rounds() if r.number < before and _has_published(r)]
    found: dict[str, Sketch | None] = {
        f"round {r.number}": kept(ledger, f"round-{r.number}", lambda r=r: _merged(folder, r))
        for r in rounds[-ROUNDS_AS_WHOLES:]
    }
    for r in rounds:
        for adapter in ledger.adapters(r.number):
            if adapter.state == "accepted":
                digest = adapter.digest
                found[f"adapter {digest[:12]} of round {r.number}"] = kept(
                    ledger, digest, lambda digest=digest: _read(folder, digest)
                )
    return {name: sketch for name, sketch in found.items() if sketch is not None}


def kept(ledger: Ledger, name: str, compute: Callable[[], Sketch]) -> Sketch | None:
    """The sketch from the ledger, else computed and noted there; None where that fails."""
    fact = ledger.fact(f"sketch-{name}")
    if fact is not None:
        return np.array(fact, dtype=np.float64)
    try:
        sketch = compute()
    except SeshuError as error:
        logger.warning("no sketch of %s: %s", name[:12], error)
        return None
    ledger.set_fact(f"sketch-{name}", sketch.tolist())
    return sketch


def _has_published(found: Round) -> bool:
    return found.state is RoundState.PUBLISHED and found.revision is not None


def _read(folder: RunFolder, digest: str) -> Sketch:
    path = folder.adapter(digest)
    shape = checkpoints.read_shape(path)
    return sketch_of(read_adapter(path, shape=shape, rules=AdapterRules(), digest=digest))
