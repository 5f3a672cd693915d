"""`coordinator open`: from text to a run: hold-outs, a catalogue of shards, text to pretrain on.

What is held out is drawn by a secret that never leaves the run folder.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from rich.console import Console

from seshu_swarm import checkpoints
from seshu_swarm.coordinator.config import OpenConfig
from seshu_swarm.coordinator.opening.place import clear_unfinished, must_be_free
from seshu_swarm.coordinator.opening.power import power_table
from seshu_swarm.coordinator.opening.standing import standing, standing_json
from seshu_swarm.coordinator.pretraining.text import write_text
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.catalogue import write_catalogue
from seshu_swarm.data.folder import read_folder
from seshu_swarm.data.jsonl import BadRows
from seshu_swarm.data.phrasebook import build
from seshu_swarm.data.splits import Splits, SplitSizes, split
from seshu_swarm.data.text import Corpus
from seshu_swarm.network import identity
from seshu_swarm.packages import publish_folder
from seshu_swarm.program import log

PHRASEBOOK_SEED = 0


def run(settings: OpenConfig) -> int:
    folder = RunFolder.of(settings.state_dir)
    base = Path(settings.base).expanduser() if settings.base else None
    must_be_free(folder, base)
    splits = _split(settings)
    folder.make()
    with folder.hold():
        # Another opening may have ended meanwhile.
        must_be_free(folder, base)
        ledger = Ledger(folder.ledger)
        clear_unfinished(folder, ledger)
        adopted = _adopt(folder, base) if base else None
        _fill(settings, splits, folder, ledger)
        if adopted:
            Lineage(ledger.database).add(adopted, parent=None, kind=Kind.BASE)
        # Written last: a folder without it was never opened.
        ledger.set_fact("run_id", settings.run_id)
    _say(settings, splits, folder, ledger)
    return 0


def _fill(settings: OpenConfig, splits: Splits, folder: RunFolder, ledger: Ledger) -> None:
    me = identity.load_or_create(folder.path)
    hold_outs = HoldOuts(folder, ledger.database)
    for role in Role:
        hold_outs.add(role, getattr(splits, role))
    write_text(folder, splits.pretrain)
    ledger.set_fact("catalogue", _write_catalogue(folder, splits, settings.rows_per_shard))
    ledger.set_fact("languages", list(settings.languages))
    ledger.set_fact("licence", settings.licence)
    ledger.set_fact("fingerprint", me.fingerprint)


def _split(settings: OpenConfig) -> Splits:
    corpus = _corpus(settings)
    rows, documents = settings.hold_out_rows, settings.hold_out_documents
    sizes = SplitSizes(
        # The gate decides, once a round; the tuning split is read many times and must stay cheap.
        tuning_rows=rows // 4,
        gate_rows=rows,
        final_rows=rows // 2,
        tuning_documents=documents // 2,
        gate_documents=documents,
        final_documents=documents // 2,
    )
    return split(corpus, languages=settings.languages, secret=secrets.token_bytes(32), sizes=sizes)


def _corpus(settings: OpenConfig) -> Corpus:
    if settings.data is None:
        return build(settings.languages, PHRASEBOOK_SEED)
    bad_rows: BadRows = "skip" if settings.bad_rows == "skip" else "refuse"
    return read_folder(Path(settings.data), settings.languages, bad_rows=bad_rows)


def _write_catalogue(folder: RunFolder, splits: Splits, rows_per_shard: int) -> str:
    fresh = folder.packages / "opening"
    shutil.rmtree(fresh, ignore_errors=True)
    digest = write_catalogue(
        fresh, splits.shards, rows_per_shard=rows_per_shard, documents=splits.pretrain
    )
    publish_folder(fresh, folder.package(digest))
    return digest


def _adopt(folder: RunFolder, base: Path) -> str:
    """Take a Mamba checkpoint in, in our shards; its digest. Raises PackageError."""
    fresh = folder.packages / "adopting"
    shutil.rmtree(fresh, ignore_errors=True)
    digest = checkpoints.save_checkpoint(
        fresh,
        shape=checkpoints.read_shape(base),
        tensors=checkpoints.load_tensors(base),
        about={"parent": None, "round": 0},
        card=f"# Base of a Seshu run\n\nTaken in from `{base.name}`.\n",
    )
    publish_folder(fresh, folder.package(digest))
    return digest


def _say(settings: OpenConfig, splits: Splits, folder: RunFolder, ledger: Ledger) -> None:
    counts = {
        language: {
            "documents": len(splits.pretrain.get(language, ())),
            "rows": len(splits.shards.get(language, ())),
            **{f"{role}_rows": len(getattr(splits, role).rows[language]) for role in Role},
        }
        for language in settings.languages
    }
    lines = [f"opened run {settings.run_id!r} in {settings.state_dir}"]
    lines += [
        f"  {language}: "
        + ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in c.items())
        for language, c in counts.items()
    ]
    sets = HoldOuts(folder, ledger.database).all()
    facts: dict[str, object] = {f"commitment_{found.name}": found.commitment for found in sets}
    lines += [f"  {name.replace('_', ' ')}: {value}" for name, value in facts.items()]
    power, _ = standing(folder, ledger)
    facts["power"] = standing_json(power)
    log.event("opened", "\n".join(lines), languages=counts, **facts)
    if log.is_text():
        Console().print(power_table(power, is_measured=False))
