"""`coordinator dashboard`: the page from the run's folder alone; `run` may come and go meanwhile."""

from __future__ import annotations

from seshu_swarm.coordinator.config import DashboardConfig
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.web.books import Books
from seshu_swarm.dashboard.board import Board
from seshu_swarm.dashboard.serving import listening, serve
from seshu_swarm.program import running
from seshu_swarm.program.running import Stop


def run(settings: DashboardConfig) -> int:
    folder = RunFolder.of(settings.state_dir)
    folder.must_exist()
    return running.run(lambda stop: _show(settings, folder, stop))


async def _show(settings: DashboardConfig, folder: RunFolder, stop: Stop) -> int:
    with listening(settings.web) as listener:
        await serve(Board(Books(folder, Ledger(folder.ledger))), listener, stop)
    return 0
