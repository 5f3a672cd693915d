"""`client status`: the run and who hosts which blocks, from signed records only."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from seshu_swarm import log, running
from seshu_swarm.client.config import StatusConfig
from seshu_swarm.dht import Found
from seshu_swarm.joining import Joined, join
from seshu_swarm.records import SpanRecord
from seshu_swarm.running import Stop
from seshu_swarm.spans import Span, coverage


def run(settings: StatusConfig) -> int:
    return running.run(lambda stop: show(settings, stop))


async def show(settings: StatusConfig, stop: Stop) -> int:
    joined = await join(settings)
    try:
        found = await joined.swarm.spans(joined.run.num_blocks)
    finally:
        await joined.swarm.leave()
    _print(joined, sorted(found, key=lambda f: (f.record.start, f.owner)))
    return 0


def _print(joined: Joined, found: list[Found[SpanRecord]]) -> None:
    run = joined.run
    covered = coverage((Span(f.record.start, f.record.end) for f in found), run.num_blocks)
    facts = {
        "run": run.run_id,
        "revision": run.revision,
        "round_index": run.round_index,
        "round_state": run.round_state,
        "coverage": covered,
        "peers": [{"peer_id": f.owner, **f.record.model_dump(mode="json")} for f in found],
    }
    if not log.is_text():
        log.event("status", "status", **facts)
        return
    console = Console()
    console.print(
        f"run {run.run_id}: revision {run.revision[:12]}, round {run.round_index} "
        f"{run.round_state}, {run.num_parameters:,} parameters, {', '.join(run.languages)}"
    )
    console.print(_table(found))
    if missing := [str(block) for block, peers in enumerate(covered) if peers == 0]:
        console.print(
            f"blocks without a peer: {', '.join(missing)}; host one: peer host --join LINK"
        )


def _table(found: list[Found[SpanRecord]]) -> Table:
    table = Table("peer", "blocks", "revisions", "sessions", "ms per step", "limits", "state")
    for entry in found:
        record = entry.record
        state = record.paused or ("leaving" if record.is_draining else "serving")
        table.add_row(
            f"…{entry.owner[-8:]}",
            f"{record.start}:{record.end}",
            " ".join(revision[:8] for revision in record.revisions),
            str(record.num_sessions),
            f"{record.step_seconds * 1e3:.1f}" if record.step_seconds else "–",
            record.limits,
            state,
        )
    return table
