"""The run's held-out sets: written when the run is opened, read by the judge, shown to nobody.

Only their commitments (SHA-256 with a salt) leave the coordinator before they are retired.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from seshu_swarm.coordinator.blind.judging import Splits
from seshu_swarm.coordinator.blind.scoring import HeldOut
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.holdout import Holdout, commitment, read_holdout, write_holdout
from seshu_swarm.data.text import Document
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.windows import Window, windows_of_documents, windows_of_rows

NAMES = ("tuning", "gate", "final")
MAX_WINDOW_BYTES = 512
MAX_CONTEXT_TOKENS = 128
MAX_WINDOWS_PER_DOCUMENT = 3  # long documents must not outweigh, nor outlast, the others


def write_hold_outs(folder: RunFolder, ledger: Ledger, sets: dict[str, Holdout]) -> None:
    """Keep the sets, and note their salts and commitments in the ledger."""
    folder.hold_outs.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in NAMES:
        salt = secrets.token_bytes(32)
        ledger.set_fact(f"salt-{name}", salt.hex())
        ledger.set_fact(f"commitment-{name}", commitment(sets[name], salt))
        write_holdout(folder.hold_outs / f"{name}.jsonl", sets[name])


def read_splits(folder: RunFolder) -> Splits:
    """The three sets as windows to score."""
    tuning, gate, final = (_held_out(folder, name) for name in NAMES)
    return Splits(tuning, gate, final)


def _held_out(folder: RunFolder, name: str) -> HeldOut:
    found = read_holdout(folder.hold_outs / f"{name}.jsonl")
    tokeniser = ByteTokeniser()
    rows: dict[str, list[Window]] = {
        language: windows_of_rows(
            tokeniser, items, max_bytes=MAX_WINDOW_BYTES, max_context_tokens=MAX_CONTEXT_TOKENS
        )
        for language, items in found.rows.items()
    }
    text = {language: _of_documents(items) for language, items in found.documents.items()}
    return HeldOut(rows, text)


def _of_documents(documents: Sequence[Document]) -> list[Window]:
    return [
        window
        for document in documents
        for window in windows_of_documents(
            ByteTokeniser(), [document], MAX_WINDOW_BYTES, max_context_tokens=MAX_CONTEXT_TOKENS
        )[:MAX_WINDOWS_PER_DOCUMENT]
    ]
