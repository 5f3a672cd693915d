"""`python -m tests.coordinator.killed_run POINT run …`: the coordinator, killed with -9 at a point.

POINT is a phase whose decision is about to be written, `end` for the transaction that ends the
round, or `never`. Everything else is the real command.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from seshu_swarm.coordinator import __main__ as coordinator
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.ledger import Ledger


def kill_at(point: str) -> None:
    note, end_round = Decisions.note, Ledger.end_round

    def noting(self: Decisions, round_number: int, phase: str, value: Any) -> Any:
        if phase == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return note(self, round_number, phase, value)

    def ending(self: Ledger, *arguments: Any, **named: Any) -> None:
        if point == "end":
            os.kill(os.getpid(), signal.SIGKILL)
        end_round(self, *arguments, **named)

    Decisions.note, Ledger.end_round = noting, ending  # type: ignore[method-assign]


def main() -> int:
    kill_at(sys.argv.pop(1))
    return coordinator.main()


if __name__ == "__main__":
    sys.exit(main())
