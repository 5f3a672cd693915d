"""Sketches of what was merged before: accepted adapters, and the last rounds as wholes.

A sketch is computed once and kept in the ledger; one that is missing is computed again from the
run's packages. What is no longer in the run's folder cannot be compared, and is passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import numpy as np

from seshu_swarm import checkpoints
from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.rules import TARGETS, AdapterRules, module_name
from seshu_swarm.adapters.sketch import Sketch, sketch_of, sketch_of_delta
from seshu_swarm.coordinator.rounds.states import REVOKED, RoundState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import SeshuError

logger = logging.getLogger(__name__)

ROUNDS_AS_WHOLES = 3  # what an older round did is no shortcut on today's base


def earlier_sketches(ledger: Ledger, folder: RunFolder, *, before: int) -> dict[str, Sketch]:
    """What it is, in words for donors → its sketch, from the rounds before number `before`."""
    published = [
        r for r in ledger.rounds() if r.number < before and r.state is RoundState.PUBLISHED
    ]
    found: dict[str, Sketch | None] = {}
    for r in published[-ROUNDS_AS_WHOLES:]:
        merged = partial(_merged, folder, r.parent, str(r.revision))
        found[f"what round {r.number} merged"] = _noted(ledger, str(r.revision), merged)
    for r in published:
        for adapter in ledger.adapters(r.number):
            # What was revoked comes back under no other name.
            if adapter.state == "accepted" or adapter.reason.startswith(REVOKED):
                read = partial(_adapter, folder, adapter.digest, r.parent)
                words = f"adapter {adapter.digest[:12]} of round {r.number}"
                found[words] = _noted(ledger, adapter.digest, read)
    return {words: sketch for words, sketch in found.items() if sketch is not None}


def note_sketch(ledger: Ledger, digest: str, sketch: Sketch) -> None:
    """Keep a sketch that was computed anyway, for later rounds."""
    ledger.set_fact(f"sketch-{digest}", sketch.tolist())


def _noted(ledger: Ledger, digest: str, compute: Callable[[], Sketch]) -> Sketch | None:
    """The sketch from the ledger, else computed and kept there; None where that fails."""
    fact = ledger.fact(f"sketch-{digest}")
    if fact is not None:
        return np.array(fact, dtype=np.float64)
    try:
        sketch = compute()
    except SeshuError as error:
        logger.warning("%s cannot be compared with: %s", digest[:12], error)
        return None
    note_sketch(ledger, digest, sketch)
    return sketch


def _adapter(folder: RunFolder, digest: str, parent: str) -> Sketch:
    shape = checkpoints.read_shape(folder.package(parent))
    adapter = read_adapter(folder.adapter(digest), shape=shape, rules=AdapterRules(), digest=digest)
    return sketch_of(adapter)


def _merged(folder: RunFolder, parent: str, revision: str) -> Sketch:
    """Of the difference in the weights that adapters may change, whatever the merge method."""
    shape = checkpoints.read_shape(folder.package(revision))
    before, after = (checkpoints.load_tensors(folder.package(d)) for d in (parent, revision))
    names = [
        f"{module_name(block, target)}.weight"
        for block in range(shape.num_blocks)
        for target in TARGETS
    ]
    return sketch_of_delta({name: after[name] - before[name] for name in names})
