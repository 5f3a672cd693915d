"""A snapshot of the run from its folder alone: ledger, reports, packages. Reads, never writes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

from seshu_swarm.coordinator.conducting.kept import kept_plan
from seshu_swarm.coordinator.releasing.reports import read_reports
from seshu_swarm.coordinator.rounds.states import ENDED
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.web import history
from seshu_swarm.coordinator.web.history import Report
from seshu_swarm.coordinator.web.watching import seen
from seshu_swarm.dashboard.snapshot import Run, Snapshot
from seshu_swarm.errors import PackageError, ResourceError, UsageError
from seshu_swarm.mamba.shape import MambaShape

logger = logging.getLogger(__name__)

CONFIG = "config.json"
SOURCE = "Read from the coordinator's books and the records that peers sign."


class Books:
    """The `Source` of a run folder."""

    def __init__(self, folder: RunFolder, ledger: Ledger) -> None:
        self._folder, self._ledger = folder, ledger
        self._stamps: list[tuple[str, int]] = []
        self._reports: dict[int, Report] = {}

    async def snapshot(self) -> Snapshot:
        """Raises UsageError while the run has no model, PackageError where its checkpoint is broken."""
        return await asyncio.to_thread(self.read)

    def read(self) -> Snapshot:
        handed, swarm = history.handed_in(self._ledger), seen(self._ledger)
        ended = {one.number for one in self._ledger.rounds() if one.state in ENDED}
        return Snapshot(
            taken_at=time.time(),
            source=SOURCE,
            run=self._run(swarm.link if swarm else ""),
            peers=swarm.peers if swarm else None,
            training=history.training(self._ledger),
            rounds=history.rounds(self._ledger, handed, self._all_reports()),
            donors=history.donors(handed, ended),
            checkpoints=history.checkpoints(self._folder, self._ledger),
        )

    def file(self, revision: str, name: str) -> Path | None:
        return self._folder.package(revision) / name

    def _run(self, link: str) -> Run:
        fact, revision = self._ledger.fact, self._ledger.fact("revision")
        if revision is None:
            raise UsageError(
                f"the run in {self._folder.path} has no model yet",
                way_out="python -m seshu_swarm.coordinator pretrain, or open it with --base FOLDER",
            )
        shape = self._shape(revision)
        rounds = self._ledger.rounds()
        current = rounds[-1] if rounds and rounds[-1].state not in ENDED else None
        return Run(
            run_id=fact("run_id"),
            revision=revision,
            num_blocks=shape.num_blocks,
            d_model=shape.d_model,
            num_parameters=shape.num_parameters,
            languages=tuple(fact("languages") or ()),
            licence=fact("licence") or "",
            round_index=len(rounds),
            round_state=str(current.state) if current else self._between(),
            round_closes_at=current.closes_at if current else 0.0,
            link=link,
        )

    def _shape(self, revision: str) -> MambaShape:
        """Without `checkpoints`: that would load torch into a process that computes nothing."""
        path = self._folder.package(revision) / CONFIG
        try:
            return MambaShape.from_config(json.loads(path.read_bytes()), source=str(path))
        except (OSError, ValueError) as error:
            raise PackageError(f"cannot read {path}: {error}"[:300]) from None

    def _between(self) -> str:
        plan = kept_plan(self._ledger)
        return "training through peers" if plan and plan.state == "open" else "between rounds"

    def _all_reports(self) -> dict[int, Report]:
        """Read again only where a file is new or was written again; a broken one hides no page."""
        paths = sorted(self._folder.reports.glob("round-*.json"))
        stamps = [(path.name, path.stat().st_mtime_ns) for path in paths]
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                found = read_reports(self._folder.reports)
                self._reports = {int(one["round"]): one for one in found}
            except (PackageError, ResourceError) as error:
                logger.warning("rounds are shown as they were: %s", error)
        return self._reports
