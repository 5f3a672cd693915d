"""What strangers wrote is shown as text: a file name may look like markup."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from seshu_swarm.coordinator.config import RoundConfig
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.showing import round as showing_round
from seshu_swarm.coordinator.showing.status import _rounds
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder

HOSTILE = "EXTRA_FILE: the package holds '[/x][link=http://evil]click[/link]'"


def test_a_hostile_reason_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path)
    ledger = Ledger(run.ledger)
    current = ledger.begin_round(parent="aa" * 32, seed=1, closes_at=0.0)
    ledger.end_round(current, RoundState.ABORTED, judgements=[], reason=HOSTILE)
    adapter = {"digest": "bb" * 32, "language": "hi", "accepted": False, "gain": ""}
    adapter |= {"reason": HOSTILE, "next_step": "[bold]nothing"}
    facts = {"round": 1, "state": "aborted", "reason": HOSTILE, "adapters": [adapter]}
    run.report(1).parent.mkdir()
    run.report(1).write_text(json.dumps(facts))
    assert showing_round.run(RoundConfig(state_dir=str(tmp_path), number=1)) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert "[/x][link=http://evil]click[/link]" in shown and "[bold]" in shown


def test_so_is_a_round_in_the_status() -> None:
    table = _rounds(
        [{"round": 1, "state": "aborted", "adapters": 1, "revision": None, "reason": HOSTILE}]
    )
    console = Console(width=200, file=io.StringIO())
    console.print(table)
    assert HOSTILE in console.file.getvalue()  # type: ignore[attr-defined]
