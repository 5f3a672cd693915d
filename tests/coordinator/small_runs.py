"""A small real run for tests of rounds: phrasebook, a base trained here, donors' real adapters."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from seshu_swarm.coordinator.config import OpenConfig, PretrainConfig
from seshu_swarm.coordinator.opening import command as opening
from seshu_swarm.coordinator.pretraining import command as pretraining
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.catalogue import read_pretrain_shard, read_shard, shards_of
from seshu_swarm.packages import read_manifest
from seshu_swarm.peer.donating.lora import finetune
from seshu_swarm.peer.donating.lora_settings import LoraSettings
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord
from seshu_swarm.stores.references import Reference

RUN_ID = "small"


def open_run(path: Path, languages: Sequence[str], *, pretrain_steps: int = 150) -> RunFolder:
    """A run with a base of 64 x 2 that has seen some text."""
    settings = OpenConfig(
        state_dir=str(path),
        run_id=RUN_ID,
        languages=tuple(languages),
        hold_out_rows=120,  # a quarter for tuning, where near copies may fall out
        hold_out_documents=24,
    )
    opening.run(settings)
    pretraining.run(
        PretrainConfig(
            state_dir=str(path),
            d_model=64,
            num_blocks=2,
            max_steps=pretrain_steps,
            max_threads=1,
        )
    )
    return RunFolder.of(str(path))


def hand_in(run: RunFolder, language: str, *, max_steps: int = 120) -> str:
    """A donor's adapter, trained here, its files in the run and its record in the open round."""
    ledger = Ledger(run.ledger)
    revision, catalogue = ledger.fact("revision"), run.package(ledger.fact("catalogue"))
    manifest = read_manifest(catalogue)
    rows = read_shard(catalogue / shards_of(manifest, language)[0])
    # As donors do: running text of all languages between the rows, so that none is unlearned.
    texts = sorted(name for name in manifest.files if name.startswith("pretrain-"))
    documents = [one for name in texts for one in read_pretrain_shard(catalogue / name)]
    out = run.path / f"trained-{language}"
    settings = LoraSettings(rank=4, max_steps=max_steps, replay_share=0.4)
    result = finetune(run.package(revision), rows, out, settings=settings, documents=documents)
    assert result is not None
    shutil.move(out, run.adapter(result.digest))
    [current] = ledger.rounds()
    record = AdapterRecord(
        run_id=RUN_ID,
        reference=str(Reference.of_swarm(result.digest)),
        digest=result.digest,
        base_revision=revision,
        rank=4,
        language=language,
        num_rows=len(rows),
        licence="CC-BY-4.0",
        round_index=current.number,
    )
    ledger.add_adapter(
        result.digest,
        round_number=current.number,
        owner=f"donor of {language}",
        record=record_bytes.to_bytes(record),
    )
    return result.digest


def begin_round(run: RunFolder) -> None:
    """A round that closes at once: what is handed in lies in the ledger already."""
    ledger = Ledger(run.ledger)
    ledger.begin_round(parent=ledger.fact("revision"), seed=20_261_121, closes_at=time.time())


def report_of(run: RunFolder, number: int = 1) -> dict[str, object]:
    found: dict[str, object] = json.loads(run.report(number).read_bytes())
    return found
