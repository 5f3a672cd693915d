"""Candidates of a round: admitted once, their names stripped, and read again after a kill.

Random ids are drawn by the round's seed; which donor stands behind one is in the ledger only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from seshu_swarm import checkpoints
from seshu_swarm.adapters.clipping import clipped
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.admitting import admit
from seshu_swarm.coordinator.rounds.states import UNSCORED
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder


@dataclass(frozen=True)
class Candidates:
    """Random id → adapter (within `max_norm`), digest and declared language."""

    adapters: dict[str, Adapter]
    ids: dict[str, str]
    languages: dict[str, str]
    max_norm: float
    scored: tuple[str, ...]


def admit_candidates(
    folder: RunFolder,
    ledger: Ledger,
    current: Round,
    *,
    missing: Mapping[str, gather.Refused],
    rule: gather.ReadRule,
    scored: Collection[str],
) -> dict[str, Any]:
    """Read strictly, screen, strip the names: JSON values; refusals go to the ledger.

    Adapters for languages that are not `scored` wait for another round. Raises RoundError where the
    planted copy was not recognised.
    """
    # A phase that was cut off leaves refusals behind: they are all found again.
    ledger.forget_verdicts(current.number)
    gather.refuse(ledger, missing)
    adapters = gather.read_all(ledger, current, rule=rule, folder_of=folder.adapter)
    for digest in list(adapters):
        if (language := gather.language_of(ledger, digest)) not in scored:
            gather.refuse(ledger, {digest: _unscored(language)})
            del adapters[digest]
    admitted = admit(ledger, folder, current.number, adapters)
    ids = gather.strip_names(list(admitted.adapters), current.seed)
    languages = gather.languages_of(ledger, ids)
    return {
        "ids": ids,
        "languages": languages,
        "max_norm": admitted.max_norm,
        "scored": sorted(scored),
    }


def _unscored(language: str) -> gather.Refused:
    reason = f"{UNSCORED}: too little held-out text in {language} to show a gain"
    return gather.Refused(reason, "hand it in again when the run has more text in that language")


def read_candidates(folder: RunFolder, current: Round, found: Mapping[str, Any]) -> Candidates:
    """The candidates that were admitted, from the bytes that were checked. Raises AdapterError."""
    shape = checkpoints.read_shape(folder.package(current.parent))
    adapters = {
        random_id: clipped(
            gather.read_again(folder.adapter(digest), digest, shape), max_norm=found["max_norm"]
        )
        for random_id, digest in found["ids"].items()
    }
    return Candidates(
        adapters, found["ids"], found["languages"], found["max_norm"], tuple(found["scored"])
    )
