"""Peers that leave politely, and peers that are made to choose other blocks, under live sessions.

In turn a host is asked to end, and comes back on the blocks it was told to host; or it gets SIGUSR1,
hands its sessions over and hosts blocks that need it more. Only a host whose blocks others have too is
asked, and one that nobody talks through only where there is no other. No session may fail and no token may change.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from random import Random

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.swarm import live, tables
from seshu_swarm.bench.swarm.live import Crowd
from seshu_swarm.bench.swarm.model import RandomModel
from seshu_swarm.bench.swarm.summary import Times
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.bench.swarm.village import Host, Village
from seshu_swarm.program.children import Event
from seshu_swarm.program.reports import Result

SPEAK_SECONDS = 60.0


class Move(StrEnum):
    DRAIN = "drain"
    REBALANCE = "rebalance"


@dataclass(frozen=True)
class MoveRow:
    """One host. `before` and `after`: its blocks; `sessions` it was to hand over, `left` those it could
    not; `is_done`: it left in order, or hosts other blocks now."""

    move: str
    host: str
    before: str
    after: str
    sessions: int
    left: int
    seconds: float
    is_done: bool


async def measure(
    settings: BenchConfig, village: Village, user: User, model: RandomModel
) -> Outcome:
    """`settings.drains` moves, one after another, drains and rebalances in turn."""
    crowd, rng = Crowd(user, settings.seed), Random(settings.seed)
    await crowd.learn(model)
    rows: list[MoveRow] = []
    async with crowd.living():
        await crowd.until_all_speak(seconds=SPEAK_SECONDS)
        for number in range(settings.drains):
            spare = village.spare_hosts()
            busy = [host for host in spare if crowd.goes_through(host.peer_id)]
            host = rng.choice(busy or spare)
            rows.append(await _move(host, list(Move)[number % len(Move)], user))
    shown = [asdict(row) for row in rows]
    lives = [asdict(live.row_of(crowd.lives, during="moves", revision=model.revision[:12]))]
    tables.show("hosts that leave, or choose other blocks", shown)
    tables.show(f"{live.NUM_SESSIONS} live sessions meanwhile", lives)
    return Outcome(results_of(rows) | live.results_of(crowd.lives, "moves"), [*shown, *lives])


async def _move(host: Host, move: Move, user: User) -> MoveRow:
    """Until the swarm is whole again."""
    heard, before, began = list(host.child.events), host.blocks, time.perf_counter()
    is_done = await (host.drain() if move is Move.DRAIN else host.rebalance())
    seconds = time.perf_counter() - began
    handed_over = _handed_over([event for event in host.child.events if event not in heard])
    if move is Move.DRAIN:
        await host.start()
        await user.reach(host.peer_id)
    return MoveRow(move.value, host.name, before, host.blocks, *handed_over, seconds, is_done)


def _handed_over(events: list[Event]) -> tuple[int, int]:
    """Sessions that were told to move on, and those that had not when time was up."""
    found = next((event for event in events if event["event"] == "handed_over"), None)
    return (int(found["sessions"]), int(found["left"])) if found else (0, 0)


def results_of(rows: list[MoveRow]) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for move, name in ((Move.DRAIN, "drain"), (Move.REBALANCE, "rebalance")):
        of = [row for row in rows if row.move == move]
        times = Times.of([row.seconds for row in of])
        results |= {
            f"{name}s": sum(row.is_done for row in of),
            f"{name}s_cut_short": sum(not row.is_done or row.left > 0 for row in of),
            f"{name}_ms_p50": times.p50_ms,
            f"{name}_ms_p99": times.p99_ms,
        }
    return results | {"sessions_handed_over": sum(row.sessions - row.left for row in rows)}
