"""The round that was open when the head changed: it ends, for its adapters fit the old head.

For commands that hold the run's lock: no `coordinator run` is working.
"""

from __future__ import annotations

from seshu_swarm.coordinator.rounds import report
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder

NEXT_STEP = "train on the new checkpoint and hand in again; peer finetune --follow does that"


def end_open_round(folder: RunFolder, ledger: Ledger, why: str) -> None:
    """Abort it with a verdict for everyone who handed in. Without one nothing happens."""
    rounds = ledger.rounds()
    if not rounds or rounds[-1].state in ENDED:
        return
    number = rounds[-1].number
    for adapter in ledger.adapters(number):
        ledger.judge(
            adapter.digest,
            state="rejected",
            reason=f"STALE_BASE: {why}",
            gain=adapter.gain,
            next_step=NEXT_STEP,
        )
    ledger.move_round(number, RoundState.ABORTED, reason=why)
    report.write(folder, report.aborted(ledger, ledger.round(number), why))
