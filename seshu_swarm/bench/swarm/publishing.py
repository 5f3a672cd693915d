"""A new revision of a bench's run, entered as the end of a round enters it.

First the package, then the word of it in the ledger; the coordinator announces what the ledger says.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from seshu_swarm.bench.swarm.model import RandomModel
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.packages import publish_folder


def publish(run_folder: Path, model: RandomModel) -> None:
    """Raises SeshuError."""
    run = RunFolder(run_folder)
    fresh = run.packages / "publishing"
    shutil.copytree(model.folder, fresh)
    publish_folder(fresh, run.package(model.revision))
    lineage = Lineage(Ledger(run.ledger).database)
    head = lineage.head()
    lineage.add(model.revision, parent=head.revision if head else None, kind=Kind.ROUND)
