"""`peer` alone: look at the swarm, say what it lacks most, and do that."""

from __future__ import annotations

from seshu_swarm.peer.config import AutoConfig
from seshu_swarm.peer.donating.donor import Donor, check
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.lending import lend
from seshu_swarm.peer.roles import Role, choose_role
from seshu_swarm.peer.training.holding import hold
from seshu_swarm.program import log
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import Joined
from seshu_swarm.run.training_plan import find_training
from seshu_swarm.spans import Span, coverage


def run(settings: AutoConfig) -> int:
    check(settings)

    async def do_what_is_lacking(joined: Joined, guest: Guest, stop: Stop) -> bool:
        record = await find_training(joined)
        role, reason = await _choose(joined, settings, pretrains=record is not None)
        log.event("role", f"{role}: {reason}", role=str(role), reason=reason)
        if role is not Role.FINETUNE:
            await hold(joined, settings, guest, stop, record)
            return True
        await Donor(joined, settings, guest, stop).live()
        return not stop.is_set()

    return lend(settings, do_what_is_lacking)


async def _choose(joined: Joined, settings: AutoConfig, *, pretrains: bool) -> tuple[Role, str]:
    run = joined.run
    found = await joined.swarm.spans(run.num_blocks)
    covered = coverage((Span(f.record.start, f.record.end) for f in found), run.num_blocks)
    return choose_role(
        covered,
        has_data=settings.data is not None,
        deals_data=run.catalogue is not None,
        pretrains=pretrains,
    )
