"""New revisions under live sessions: the coordinator announces one, the hosts load it beside the old one.

Sessions stay on the revision that they began with until they end; new ones begin on the new one, once
every block of it has a host. Then no session needs the old one, and the hosts let go of it. No session may
fail; each one's tokens are those of the whole model with its own revision's weights.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from itertools import pairwise

from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.swarm import live, tables
from seshu_swarm.bench.swarm.live import Crowd
from seshu_swarm.bench.swarm.model import RandomModel
from seshu_swarm.bench.swarm.playing import Stage
from seshu_swarm.bench.swarm.publishing import publish
from seshu_swarm.bench.swarm.summary import quantile
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.bench.swarm.village import Village
from seshu_swarm.program.children import Event
from seshu_swarm.program.reports import Result

SPEAK_SECONDS, SWITCH_SECONDS = 60.0, 120.0
# The last session of an old revision has to end, and a host looks only now and then.
END_SECONDS, RETIRE_SECONDS = 900.0, 180.0


@dataclass(frozen=True)
class RollRow:
    """One roll, in seconds since it was published. `pinned`: sessions that were still speaking on the
    old revision when every host had the new one."""

    revision: str
    pinned: int
    new_sessions_seconds: float
    switched_seconds: float
    retired_seconds: float


async def measure(stage: Stage, village: Village, user: User, model: RandomModel) -> Outcome:
    """`rolls` of the settings, one after another."""
    crowd = Crowd(user, stage.settings.seed)
    models = [model]
    for number in range(stage.settings.rolls):
        models.append(stage.model_after(models[-1], number + 1))
    for each in models:
        await crowd.learn(each)
    rows: list[RollRow] = []
    async with crowd.living():
        await crowd.until_all_speak(seconds=SPEAK_SECONDS)
        for old, new in pairwise(models):
            rows.append(await _roll(village, user, crowd, old=old.revision, new=new))
    of = {m.revision: [x for x in crowd.lives if x.revision == m.revision] for m in models}
    lives = [asdict(live.row_of(found, during="rolls", revision=r[:12])) for r, found in of.items()]
    shown = [asdict(row) for row in rows]
    tables.show("new revisions", shown)
    tables.show(f"{live.NUM_SESSIONS} live sessions meanwhile", lives)
    return Outcome(results_of(rows) | live.results_of(crowd.lives, "rolls"), [*shown, *lives])


async def _roll(
    village: Village, user: User, crowd: Crowd, *, old: str, new: RandomModel
) -> RollRow:
    began = time.perf_counter()
    await asyncio.to_thread(publish, village.run_folder, new)
    following = asyncio.create_task(_seconds_until_followed(user, new.revision, began))
    try:
        await _all_say(village, "switched", new.revision, seconds=SWITCH_SECONDS)
        switched, pinned = time.perf_counter() - began, crowd.num_speaking(old)
        followed = await following
    finally:
        following.cancel()
    await crowd.until_silent(old, seconds=END_SECONDS)
    await _all_say(village, "retired", old, seconds=RETIRE_SECONDS)
    retired = time.perf_counter() - began
    return RollRow(new.revision[:12], pinned, followed, switched, retired)


async def _seconds_until_followed(user: User, revision: str, began: float) -> float:
    await user.follow(revision)
    return time.perf_counter() - began


async def _all_say(village: Village, name: str, revision: str, *, seconds: float) -> None:
    """Every host has said so of this revision. Raises SeshuError."""

    def is_of_it(event: Event) -> bool:
        return revision in (event.get("revision"), *event.get("revisions", ()))

    saying = (h.child.wait_for(name, seconds=seconds, matching=is_of_it) for h in village.hosts)
    await asyncio.gather(*saying)


def results_of(rows: list[RollRow]) -> dict[str, Result]:
    return {
        "rolls": len(rows),
        "sessions_pinned_over_rolls": sum(row.pinned for row in rows),
        "roll_new_sessions_seconds": quantile([row.new_sessions_seconds for row in rows], 1.0),
        "roll_switched_seconds": quantile([row.switched_seconds for row in rows], 1.0),
    }
