"""What lies beside a published checkpoint: card, verdicts, curves, data manifest.

No part of the digest: all of it is made from the round's report and the ledger, and may be made
again: the same bytes, unless a revision before it was withdrawn since, which the card then says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seshu_swarm.coordinator.releasing.card import CardFacts, card_of, tag_of
from seshu_swarm.coordinator.releasing.curves import curves_of, table_of
from seshu_swarm.coordinator.releasing.data import data_of
from seshu_swarm.coordinator.releasing.names import CARD, DATA, PICTURE, TABLE, VERDICTS
from seshu_swarm.coordinator.releasing.picture import draw
from seshu_swarm.coordinator.releasing.reports import Report, published
from seshu_swarm.coordinator.releasing.withdrawn import withdrawn_until
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.packages import write_whole

Reports = Sequence[Report]


def write_curves(folder: Path, run_id: str, reports: Reports) -> None:
    """Table and picture of all these rounds into a folder. Raises ResourceError, DiskFullError."""
    curves = curves_of(reports)
    write_whole(folder / TABLE, table_of(curves, reports))
    title = f"Seshu run “{run_id}”: bits per byte of held-out answers"
    write_whole(folder / PICTURE, draw(curves, title=title))


def write_papers(
    run: RunFolder, ledger: Ledger, reports: Reports, *, repository: str | None
) -> None:
    """The papers of the last of `reports`, which was published. Raises SeshuError."""
    report, run_id = reports[-1], str(ledger.fact("run_id"))
    folder = run.package(report["revision"])
    data = data_of(run, ledger, published(reports))
    write_whole(
        folder / VERDICTS, _json({"round": report["round"], "adapters": report["adapters"]})
    )
    write_curves(folder, run_id, reports)
    facts = CardFacts(
        run_id=run_id,
        licence=str(ledger.fact("licence") or ""),
        report=report,
        data=data,
        repository=repository,
        parent_tag=_parent_tag(reports),
        withdrawn=withdrawn_until(ledger, report["revision"]),
    )
    write_whole(folder / CARD, card_of(facts).encode("utf-8"))
    write_whole(folder / DATA, _json(data))


def has_papers(folder: Path) -> bool:
    """Whether all papers lie beside a checkpoint: the data manifest is written last."""
    return (folder / DATA).is_file()


def _parent_tag(reports: Reports) -> str | None:
    """Where the parent was released, or None where no round made it."""
    parent = reports[-1]["parent"]
    made = [report["round"] for report in published(reports) if report["revision"] == parent]
    return tag_of(made[0]) if made else None


def _json(table: Mapping[str, Any]) -> bytes:
    return (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
