"""A finished set: what only this machine needs goes, and a card says what it is.

Gone are the run's key, addresses, text to pretrain on, logs and scorers' folders, and the paths of
this machine in reports. What a simulation reads stays.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from seshu_swarm import packages
from seshu_swarm.coordinator.research.config import RecordConfig
from seshu_swarm.coordinator.research.recording.notes import Notes
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.network.identity import KEY_FILE
from seshu_swarm.run.joining import ADDRESSES_FILE

CARD_FILE = "README.md"


def tidy(folder: RunFolder, work: Path) -> None:
    """Remove what is private to this machine."""
    needless = (work, folder.pretraining, folder.training_state, folder.scoring, folder.logs)
    for path in needless:
        shutil.rmtree(path, ignore_errors=True)
    for path in (folder.path / KEY_FILE, folder.path / ADDRESSES_FILE, folder.lock):
        path.unlink(missing_ok=True)
    for path in sorted(folder.reports.glob("round-*.json")):
        facts = json.loads(path.read_bytes())
        if "checkpoint" in facts:
            facts["checkpoint"] = f"packages/{facts['revision']}"
            packages.write_whole(path, json.dumps(facts, indent=1, ensure_ascii=False).encode())


def write_card(folder: RunFolder, notes: Notes, settings: RecordConfig) -> None:
    """The set's README."""
    packages.write_whole(folder.path / CARD_FILE, card(folder, notes, settings).encode())


def card(folder: RunFolder, notes: Notes, settings: RecordConfig) -> str:
    ledger = Ledger(folder.ledger)
    lines = [_line(ledger, facts) for facts in notes.members.values() if facts["digest"]]
    kinds = Counter(facts["kind"] for facts in notes.members.values() if facts["digest"])
    withheld = [name for name, facts in notes.members.items() if not facts["digest"]]
    return _CARD.format(
        num_adapters=len(lines),
        languages=", ".join(settings.languages),
        model=f"{settings.d_model} wide, {settings.num_blocks} blocks, byte-level Mamba",
        data_licence=settings.data_licence,
        licence=settings.licence,
        rounds="\n".join(_rounds(ledger)),
        kinds="\n".join(f"| {kind} | {count} |" for kind, count in kinds.items()),
        withheld=len(withheld),
        adapters="\n".join(lines),
    )


def _rounds(ledger: Ledger) -> list[str]:
    return [
        f"| {found.number} | {len(ledger.adapters(found.number))} | {found.state} | "
        f"{(found.revision or found.reason)[:100]} |"
        for found in ledger.rounds()
    ]


def _line(ledger: Ledger, facts: dict[str, Any]) -> str:
    found = ledger.adapter(facts["digest"])
    verdict = f"{found.state} | {found.reason} | {found.gain}" if found else "unknown | |"
    made = (
        f"from {facts['source'][:12]}"
        if facts["source"]
        else f"{facts['num_rows']} {facts['rows_language']} rows as {facts['language']}, "
        f"rank {facts['rank']}, {facts['max_steps']} steps"
    )
    return f"| {facts['round']} | `{facts['digest'][:12]}` | {facts['kind']} | {made} | {verdict} |"


_CARD = """\
# {num_adapters} adapters with verdicts

Recorded rounds of a Seshu swarm, to try accept rules and merge methods on: real donors trained real
LoRA adapters ({languages}; base {model}), and some of them were spoilt on purpose. `recording.json`
says of each how it was made; who reads it before choosing is no longer blind.

```sh
python -m seshu_swarm.coordinator simulate --state-dir . --policy policy.py
```

The folder holds the held-out sets too, so that anyone can score. Nothing that was tuned on this set
is blind to them: judge it on another set. The run's key is not in it: no round can be added.

Text: {data_licence}. Checkpoints and adapters: {licence}.

## Rounds

| round | adapters | ended | revision or reason |
|---|---|---|---|
{rounds}

## Kinds

| kind | adapters |
|---|---|
{kinds}

Beside these, {withheld} donors withheld their adapter, because it did not lower their own held-out loss.

## Verdicts

| round | adapter | kind | made | verdict | reason | gain |
|---|---|---|---|---|---|---|
{adapters}
"""
