"""More pretraining of a run's head: new text, the gate, and what becomes of the candidate.

A candidate is a package from the moment it is trained. It passes the gate as a merge does (a sure
gain on held-out answers, no language harmed on running text, against the head); then it becomes
the head, a training boundary, and its text belongs to the run. Otherwise it stays on the disk, and
the head what it was. Knows no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from seshu_swarm import checkpoints
from seshu_swarm.coordinator.pretraining.text import add_text, run_text
from seshu_swarm.coordinator.state.hold_outs import HoldOuts
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Revision
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep.gating import Gated, pass_gate, table
from seshu_swarm.coordinator.upkeep.moving import Move, move_head
from seshu_swarm.data.decontaminate import clean
from seshu_swarm.data.folder import read_documents
from seshu_swarm.data.holdout import read_holdout
from seshu_swarm.data.jsonl import document_line, document_of, read_items
from seshu_swarm.data.text import Document
from seshu_swarm.errors import DataError, RoundError
from seshu_swarm.packages import write_whole
from seshu_swarm.program import log

FACT = "pretraining"  # {"revision", "parent"} of a candidate that has not met the gate yet
GATE_HEADING = "\n## Gate\n"

Text = dict[str, list[Document]]


def new_text(folder: RunFolder, ledger: Ledger, data: str | None) -> Text:
    """What `--data` brings that the run has not seen, without what touches a held-out set.

    Empty without `--data`. Raises DataError where nothing is left.
    """
    if data is None:
        return {}
    found = read_documents(Path(data), ledger.fact("languages"))
    seen = {document.digest for old in run_text(folder).values() for document in old}
    sets = HoldOuts(folder, ledger.database)
    held = [item for one in sets.all() for item in read_holdout(sets.path(one.name)).items()]
    fresh = {d.digest: d for new in found.values() for d in new if d.digest not in seen}
    kept, num_touched = clean(list(fresh.values()), held)
    # What was cut last time gives the same pieces again.
    documents = [d for d in kept if isinstance(d, Document) and d.digest not in seen]
    if not documents:
        raise DataError(
            f"nothing new in {data}: {len(fresh)} documents are new, {num_touched} of them held out",
            rule="more training needs text that the run has not seen",
            way_out="give other text, or leave --data out to train on the run's own again",
        )
    text = (
        f"{len(documents)} new documents; {num_touched} shared text with held-out sets and were cut"
    )
    log.event("new-text", text, num_documents=len(documents), num_touched=num_touched)
    by_language: Text = {}
    for document in documents:
        by_language.setdefault(document.language, []).append(document)
    return by_language


def waiting(ledger: Ledger, head: Revision, *, data: str | None) -> str | None:
    """The candidate that was trained on this head and has not met the gate: a killed run's.

    It is said that it goes first, and that `data` is not read then.
    """
    found = ledger.fact(FACT)
    if not found or found["parent"] != head.revision:
        return None
    candidate = str(found["revision"])
    unread = f"; --data {data} is not read now: give it again afterwards" if data else ""
    text = f"{candidate} was trained before and meets the gate first{unread}"
    log.event("waiting", text, revision=candidate, unread=data)
    return candidate


def keep(
    folder: RunFolder,
    ledger: Ledger,
    head: Revision,
    candidate: str,
    new: Mapping[str, Sequence[Document]],
) -> None:
    """Note a candidate, and the new text that becomes the run's if it passes."""
    for left in folder.training_state.glob(_text_of(folder, "*").name):
        left.unlink()
    lines = "".join(document_line(document) for found in new.values() for document in found)
    write_whole(_text_of(folder, candidate), lines.encode("utf-8"))
    ledger.set_fact(FACT, {"revision": candidate, "parent": head.revision})


def decide(folder: RunFolder, ledger: Ledger, head: Revision, candidate: str) -> None:
    """The gate. Raises RoundError where it says no: the candidate is named, the head stays."""
    gated = pass_gate(folder, ledger, base=head.revision, candidate=candidate)
    _write_gate(folder.package(candidate), head, gated)
    text = _text_of(folder, candidate)
    if not gated.verdict.accepted:
        ledger.set_fact(FACT, None)
        text.unlink(missing_ok=True)
        raise RoundError(
            f"the gate said no to {candidate}: {gated.text}",
            rule=f"the run stays at {head.revision}; the other is kept in {folder.packages}",
            way_out="train longer, on more varied text, with a larger --replay-share or a smaller rate",
        )
    documents = read_items(text, document_of, bad_rows="refuse")
    add_text(
        folder, {d.language: [e for e in documents if e.language == d.language] for d in documents}
    )
    why = f"the base was trained on: {candidate[:12]}"
    move_head(folder, ledger, Move(head=head, revision=candidate, kind=Kind.PRETRAINING, why=why))
    ledger.set_fact(FACT, None)
    text.unlink(missing_ok=True)
    said = f"pretrained revision {candidate} from {head.revision[:12]}: {gated.text}"
    log.event("pretrained", said, revision=candidate, parent=head.revision)


def _text_of(folder: RunFolder, candidate: str) -> Path:
    return folder.training_state / f"new-text-{candidate[:12]}.jsonl"


def _write_gate(package: Path, head: Revision, gated: Gated) -> None:
    """The gate's word at the end of the card; again where an earlier one stands."""
    path = package / checkpoints.CARD
    card = path.read_text(encoding="utf-8").partition(GATE_HEADING)[0]
    verdict = "passed" if gated.verdict.accepted else "not passed"
    said = (
        f"Against `{head.revision}`, bits per byte of answers in held-out set {gated.hold_out} "
        f"(reading {gated.reading}): {verdict}; {gated.text}."
    )
    whole = f"{card}{GATE_HEADING}\n{said}\n\n{table(gated.word)}\n"
    write_whole(path, whole.encode("utf-8"))
