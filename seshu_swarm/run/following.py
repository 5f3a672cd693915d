"""Following a run: its newest record, until its line forks.

Once two signed successors of one revision were seen, nothing new is followed; what is served stays.
"""

from __future__ import annotations

from seshu_swarm.errors import ForkError
from seshu_swarm.network.dht import Found
from seshu_swarm.program import log
from seshu_swarm.records.kinds import RunRecord
from seshu_swarm.run.joining import Joined


class Follower:
    """The newest run record of the run that was joined."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._has_forked = False

    async def newest(self) -> Found[RunRecord] | None:
        """None where there is none, and once the run has forked, which is said once."""
        try:
            return await self._joined.swarm.current_run(self._joined.link)
        except ForkError as error:
            if not self._has_forked:
                self._has_forked = True
                log.event("forked", f"no longer following: {error}", reason=str(error))
            return None
