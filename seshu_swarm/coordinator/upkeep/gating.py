"""A checkpoint that no round made, held against another on the gate set: one reading, noted first.

Both are whole checkpoints on disk, named by their digests; the same pair again is the same reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.coordinator.blind.held_out import read_held_out
from seshu_swarm.coordinator.blind.judging import FinalWord, conclude
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.limits import max_detectable
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.evaluate.accept import AcceptRule, Verdict, gate


@dataclass(frozen=True)
class Gated:
    """`hold_out` names the set; `reading` says how often it has been read, this time included."""

    verdict: Verdict
    word: FinalWord
    hold_out: str
    reading: int

    @property
    def text(self) -> str:
        return "; ".join(self.verdict.reasons)


def pass_gate(
    folder: RunFolder,
    ledger: Ledger,
    *,
    base: str,
    candidate: str,
    scored: tuple[str, ...] | None = None,
) -> Gated:
    """Read the gate set in use with both revisions; `scored` as in AcceptRule. Raises RoundError where
    all are retired."""
    sets = HoldOuts(folder, ledger.database)
    name = sets.in_use(Role.GATE).name
    reading = Readings(ledger.database).note(name, subject_of(candidate, base=base))
    word = measure(folder.package(base), folder.package(candidate), sets.path(name))
    found = word.comparisons
    rule = AcceptRule(max_detectable=max_detectable(ledger), scored=scored)
    verdict = gate(found.gains, found.harms, test_index=reading, rule=rule)
    return Gated(verdict, word, name, reading)


def subject_of(candidate: str, *, base: str) -> str:
    """What a reading is noted for."""
    return f"{candidate} against {base}"


def measure(base: Path, candidate: Path, held_out_file: Path) -> FinalWord:
    """Compare two checkpoint folders on a held-out file; one model is in memory at a time."""
    return conclude(base, candidate, read_held_out(held_out_file))


def is_no_worse(verdict: Verdict) -> bool:
    """No language may be harmed, and the mean over the scored ones is not above the base's."""
    return not verdict.harmed and verdict.delta_bits_per_byte <= 0


def table(word: FinalWord) -> str:
    """Markdown: bits per byte of held-out answers, and the change on running text, by language."""
    lines = ["| language | before | after | change on running text |", "|---|---:|---:|---:|"]
    for name, before in word.before.items():
        harm = word.comparisons.harms.get(name)
        text = f"{harm.delta_bits_per_byte:+.4f}" if harm else "not measured"
        lines.append(f"| {name} | {before:.4f} | {word.after[name]:.4f} | {text} |")
    return "\n".join(lines)
