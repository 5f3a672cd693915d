"""`client status`: the run and who hosts which blocks, from signed records only."""

from __future__ import annotations

import json

from rich.console import Console

from seshu_swarm.client.config import StatusConfig
from seshu_swarm.client.terminal.looking import Look, look
from seshu_swarm.client.terminal.tables import parts
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import join


def run(settings: StatusConfig) -> int:
    return running.run(lambda stop: show(settings, stop))


async def show(settings: StatusConfig, stop: Stop) -> int:
    if settings.web is not None:
        # What serves pages is imported where pages are served.
        from seshu_swarm.client import dashboard

        return await dashboard.show(settings, settings.web, stop)
    joined = await join(settings)
    try:
        found = await look(joined)
    finally:
        await joined.swarm.leave()
    _print(found, as_json=settings.json)
    return 0


def _print(found: Look, *, as_json: bool) -> None:
    if not log.is_text():
        log.event("status", "status", **found.facts())
    elif as_json:
        print(json.dumps(found.facts(), indent=1))
    else:
        console = Console()
        for part in parts(found):
            console.print(part)
