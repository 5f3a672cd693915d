"""Rounds of a run folder as they were decided, read without changing the folder.

The ledger is copied and the copy is read: SQLite writes even where it only reads. What took part,
and what was chosen, are the round's own decisions. Knows no policy and no scores.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.clipping import clipped
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.coordinator.blind.results import selection_of_json
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.hold_outs import HeldOutSet, HoldOuts, Role, SetState
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import PackageError, UsageError


@dataclass(frozen=True, kw_only=True)
class RecordedRound:
    """`ids` maps random ids to digests, `scored` are the languages that had power; `candidates` are what took part, within the round's norm.

    `mixture` is what was chosen on the tuning split, or None; `revision` what was published, or
    None; `reason` says why not. `gate_reading` counts readings of the gate set, this one included.
    """

    number: int
    seed: int
    parent: str
    base: Path
    ids: dict[str, str]
    candidates: dict[str, Adapter]
    languages: dict[str, str]
    scored: tuple[str, ...]
    mixture: Mixture | None
    revision: str | None
    reason: str
    gate_reading: int
    held_out: Mapping[Role, Path]


class Recording:
    """The ended rounds of one run folder. Raises UsageError where it holds no run."""

    def __init__(self, folder: RunFolder) -> None:
        folder.must_exist()
        self._folder = folder
        with _copied_ledger(folder) as ledger:
            ended = [r.number for r in ledger.rounds() if r.state in ENDED]
            decisions = Decisions(ledger.database)
            self._candidates = {n: bool(_ids(decisions, n)) for n in ended}
            self.languages: tuple[str, ...] = tuple(ledger.fact("languages") or ())

    def numbers(self, wanted: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The rounds asked for; by default every ended one with candidates. Raises UsageError."""
        for number in wanted:
            if not self._candidates.get(number, False):
                known = number in self._candidates
                raise UsageError(
                    f"--rounds {number}: {'no adapter took part' if known else 'no such round'}",
                    rule="a replay needs a round that has ended, with adapters that took part",
                    way_out=f"rounds of this run that can be replayed: {self._replayable()}",
                )
        numbers = wanted or self._replayable()
        if not numbers:
            raise UsageError(
                f"{self._folder.path} has no ended round with adapters",
                rule="a simulation replays recorded rounds",
                way_out="hold rounds, or make some: python -m seshu_swarm.coordinator record",
            )
        return numbers

    def _replayable(self) -> tuple[int, ...]:
        return tuple(number for number, has_any in self._candidates.items() if has_any)

    def round(self, number: int) -> RecordedRound:
        """Raises PackageError where the run folder lacks a piece of it."""
        with _copied_ledger(self._folder) as ledger:
            found, decisions = ledger.round(number), Decisions(ledger.database)
            checking = decisions.of(number, RoundState.CHECKING) or {}
            gating = decisions.of(number, RoundState.GATING) or {}
            mixture = _chosen(decisions, number)
            sets = HoldOuts(self._folder, ledger.database).all()
        return RecordedRound(
            number=number,
            seed=found.seed,
            parent=found.parent,
            base=self._package(found.parent, f"the base of round {number}"),
            ids=checking["ids"],
            candidates=self._read(found, checking),
            languages=checking["languages"],
            scored=tuple(checking["scored"]),
            mixture=mixture,
            revision=found.revision,
            reason=found.reason,
            gate_reading=gating.get("reading", number),
            held_out={role: self._held_out(sets, role, gating.get("hold_out")) for role in Role},
        )

    def _read(self, found: Round, checking: Mapping[str, Any]) -> dict[str, Adapter]:
        shape = checkpoints.read_shape(self._folder.package(found.parent))
        adapters = {}
        for random_id, digest in checking["ids"].items():
            path = self._package(digest, f"adapter {digest[:12]} of round {found.number}")
            adapter = gather.read_again(path, digest, shape)
            adapters[random_id] = clipped(adapter, max_norm=checking["max_norm"])
        return adapters

    def _package(self, digest: str, what: str) -> Path:
        path = self._folder.package(digest)
        if not (path / packages.MANIFEST).is_file():
            raise self._lacks(what)
        return path

    def _held_out(self, sets: list[HeldOutSet], role: Role, of_gate: str | None) -> Path:
        """The gate set that the round read; of the other roles the last one that was in use."""
        in_use = [s for s in sets if s.role is role and s.state is not SetState.RESERVE]
        name = of_gate if of_gate and role is Role.GATE else in_use[-1].name if in_use else role
        path = self._folder.hold_outs / f"{name}.jsonl"
        if not path.is_file():
            raise self._lacks(f"the held-out set {path.name}")
        return path

    def _lacks(self, what: str) -> PackageError:
        return PackageError(
            f"{self._folder.path} lacks {what}",
            rule="a replay needs ledger, packages and hold-outs of the run",
            way_out="copy the whole run folder",
        )


def _ids(decisions: Decisions, number: int) -> dict[str, str]:
    found: dict[str, str] = (decisions.of(number, RoundState.CHECKING) or {}).get("ids", {})
    return found


def _chosen(decisions: Decisions, number: int) -> Mixture | None:
    """Also where the gate refused it; None for a void round and for a mixture of nobody."""
    found = decisions.of(number, RoundState.SELECTING)
    if found is None:
        return None
    selection = selection_of_json(found)
    return selection.mixture if selection.mixture.shares and not selection.void else None


@contextmanager
def _copied_ledger(folder: RunFolder) -> Iterator[Ledger]:
    """The ledger and its write-ahead log, in a folder that goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix="seshu-simulate-") as temporary:
        with _nobody_writes(folder):
            for name in (folder.ledger.name, f"{folder.ledger.name}-wal"):
                if (folder.path / name).is_file():
                    shutil.copyfile(folder.path / name, Path(temporary) / name)
        yield Ledger(Path(temporary) / folder.ledger.name)


@contextmanager
def _nobody_writes(folder: RunFolder) -> Iterator[None]:
    if not folder.lock.exists():
        yield
        return
    with folder.lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"a coordinator works on {folder.path}",
                rule="a ledger that is being written gives a torn copy",
                way_out="stop the coordinator first, or simulate on a backup",
            ) from None
        yield
