"""What a release was made from: catalogue, base, adapters and hold-outs by digest, with licences.

Facts only, as JSON; what they mean for whoever uses the weights is said in `notes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from seshu_swarm import packages
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.state.hold_outs import HeldOutSet, HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.state.run_folder import RunFolder

_NON_COMMERCIAL = re.compile(r"(^|[^a-z])nc([^a-z]|$)", re.IGNORECASE)
SAMANANTAR = (
    "Samanantar is CC-BY-NC-4.0: a model trained on it should not be used commercially before you "
    "have asked somebody who knows the law."
)

Facts = dict[str, Any]


def data_of(folder: RunFolder, ledger: Ledger, reports: Sequence[Mapping[str, Any]]) -> Facts:
    """The data manifest of the last of these published rounds. Raises PackageError.

    Its notes are about all of them: what an earlier merge brought in is in the weights still.
    """
    report = reports[-1]
    adapters, catalogue = _adapters(ledger, report), _catalogue(folder, ledger)
    merged = [adapter for one in reports for adapter in _adapters(ledger, one)]
    licences = [catalogue.get("licence", ""), *(adapter["licence"] for adapter in merged)]
    return {
        "round": report["round"],
        "revision": report["revision"],
        "parent": report["parent"],
        "catalogue": catalogue,
        "pretraining": _pretraining(folder, report["parent"]),
        "adapters": adapters,
        "hold_outs": _hold_outs(folder, ledger, report["round"]),
        "notes": notes_of(licences, sources=str(catalogue)),
    }


def _catalogue(folder: RunFolder, ledger: Ledger) -> Facts:
    """Every shard with its digest, and whatever the catalogue says of itself."""
    digest = ledger.fact("catalogue")
    if digest is None:
        return {}
    manifest = packages.read_manifest(folder.package(digest), digest)
    files = {n: {"size_bytes": e.size_bytes, "sha256": e.digest} for n, e in manifest.files.items()}
    licence = ledger.fact("licence")
    return {"digest": digest, "licence": licence, "about": manifest.about, "files": files}


def _pretraining(folder: RunFolder, parent: str) -> Any:
    """What the parent's own manifest says it was pretrained on, or None."""
    place: Path = folder.package(parent)
    if not (place / packages.MANIFEST).is_file():
        return None
    return packages.read_manifest(place, parent).about.get("data")


def _hold_outs(folder: RunFolder, ledger: Ledger, number: int) -> list[Facts]:
    """The sets that the round had: gate and final that it read, tuning in use when it opened.

    Not all sets there are: more are drawn later, and the manifest must come out the same again.
    """
    sets, opened_at = HoldOuts(folder, ledger.database).all(), ledger.round(number).opened_at
    names = Readings(ledger.database).of(f"round {number}")
    # A retired set's place is taken by the next, in this order.
    tuning = (s for s in sets if s.role is Role.TUNING and not _retired_by(s, opened_at))
    names |= {found.name for found in islice(tuning, 1)}
    return [{"name": s.name, "commitment": s.commitment} for s in sets if s.name in names]


def _retired_by(found: HeldOutSet, seconds: float) -> bool:
    return found.retired_at is not None and found.retired_at <= seconds


def _adapters(ledger: Ledger, report: Mapping[str, Any]) -> list[Facts]:
    """The merged adapters as their donors declared them; no donor is named."""
    merged = []
    for digest, share in report["recipe"]["adapters"]:
        submission = ledger.adapter(digest)
        if submission is None:
            continue
        record = gather.record_of(submission)
        declared = {name: getattr(record, name) for name in ("language", "num_rows", "licence")}
        merged.append({"digest": digest, "share": share, **declared})
    return merged


def notes_of(licences: Iterable[str], *, sources: str) -> list[str]:
    """What whoever uses the weights must know."""
    notes = [
        f"{licence} is declared for a part of the data: it forbids commercial use."
        for licence in sorted({licence for licence in licences if _NON_COMMERCIAL.search(licence)})
    ]
    if "samanantar" in sources.lower():
        notes.append(SAMANANTAR)
    return notes
