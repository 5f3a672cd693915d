"""A checkpoint of pipelined training: made of the groups' states, judged, and published or kept.

It is held against the head on the **tuning** set first, which may be read often, by the gate's own rule. Only
what is better there by a margin costs a reading of the gate set; a head of random weights costs none,
because it has nothing that a reading could protect. What becomes the head is a training boundary. The
same stored states give the same package and the same reading, so that a killed decision is taken up.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from seshu_swarm import checkpoints, packages
from seshu_swarm.coordinator.blind.judging import FinalWord
from seshu_swarm.coordinator.conducting.card import amend_card, training_card
from seshu_swarm.coordinator.conducting.decided import Decided, decided_of, note_decided
from seshu_swarm.coordinator.conducting.plan import was_trained
from seshu_swarm.coordinator.conducting.stored import StoredStates
from seshu_swarm.coordinator.opening.standing import standing
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.limits import max_readings
from seshu_swarm.coordinator.state.lineage import Kind, Lineage, Revision
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.state.removing import remove_package
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep.gating import measure, pass_gate, subject_of
from seshu_swarm.coordinator.upkeep.moving import Move, move_head
from seshu_swarm.errors import DiskFullError, RoundError, SeshuError
from seshu_swarm.evaluate.accept import AcceptRule, Verdict, gate
from seshu_swarm.program import log
from seshu_swarm.records.kinds import TrainingRecord

# Between two readings, the bits per byte on the tuning set must fall by this fraction; and a
# checkpoint in mid-plan leaves readings for the last one and for rounds.
MIN_FALL = 0.05
READINGS_LEFT = 3


class StoppedError(Exception):
    """The coordinator ends while a checkpoint is scored: nothing is decided."""


class Decider:
    """Of one plan."""

    def __init__(
        self, folder: RunFolder, ledger: Ledger, record: TrainingRecord, stored: StoredStates
    ) -> None:
        self._folder, self._ledger = folder, ledger
        self._record, self._stored = record, stored
        self._is_stopped = threading.Event()

    def stop(self) -> None:
        """What is being scored ends at once, and is taken up by the next coordinator."""
        self._is_stopped.set()

    def decided(self) -> list[Decided]:
        """Oldest first."""
        return decided_of(self._ledger, self._record.plan)

    def is_decided(self, step: int) -> bool:
        return any(one.step == step for one in self.decided())

    def about(self, step: int, num_tokens: int, curve: Any) -> dict[str, Any]:
        """What the manifest says, at the moment of the checkpoint."""
        head = self._head()
        return {
            "method": "pipeline",
            "plan": self._record.plan,
            "base": self._record.base,
            "parent": head.revision,
            "round": head.round,
            "num_steps": step,
            "num_tokens": num_tokens,
            "languages": sorted(self._ledger.fact("languages")),
            "licence": self._ledger.fact("licence"),
            "curve": [list(point) for point in curve],
        }

    def decide(self, step: int) -> Decided:
        """Make the checkpoint of the stored step and judge it; once. For a thread. Raises DiskFullError."""
        for one in self.decided():
            if one.step == step:
                return one
        try:
            found = self._decide(step)
        except DiskFullError:
            raise
        except SeshuError as error:
            return self.give_up(step, str(error))
        return self._note(found)

    def give_up(self, step: int, reason: str) -> Decided:
        """The states are no checkpoint."""
        return self._note(Decided(step, "", "broken", reason))

    def _note(self, found: Decided) -> Decided:
        note_decided(self._ledger, self._record.plan, found)
        text = f"checkpoint of step {found.step} {found.state}: {found.reason}"
        log.event("checkpoint", text, **asdict(found))
        return found

    def _decide(self, step: int) -> Decided:
        head = self._head()
        about = self._stored.about(step)
        revision = self._make(step, about)
        if revision == head.revision:
            # A kill came between the move and the note of it.
            return Decided(step, revision, "published", "it is the head")
        if about["parent"] != head.revision:
            remove_package(self._folder, revision)
            return Decided(step, "", "passed over", f"the head moved to {head.revision} meanwhile")
        is_last = step >= self._record.num_steps
        tuning, word = self._on_tuning(head.revision, revision)
        reason = self._why_not_asked(tuning, word, head, revision, is_last=is_last)
        if reason:
            if not is_last:
                remove_package(self._folder, revision)
            return Decided(step, revision if is_last else "", "passed over", reason)
        if was_trained(self._folder, head.revision):
            return self._gate(step, head, revision)
        text = f"better than random weights on the tuning set: {'; '.join(tuning.reasons)}"
        return self._publish(step, head, revision, text, word)

    def _make(self, step: int, about: dict[str, Any]) -> str:
        """The package; its digest."""
        fresh = self._folder.packages / "training"
        shutil.rmtree(fresh, ignore_errors=True)
        digest = checkpoints.save_checkpoint(
            fresh,
            shape=self._stored.shape,
            tensors=self._stored.tensors(step),
            about=about,
            card=training_card(self._stored.shape, about),
        )
        packages.publish_folder(fresh, self._folder.package(digest))
        return digest

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """A thread cannot be ended, and an interrupted process waits for it: each layer asks first."""

        def ask(module: nn.Module, args: object) -> None:
            if self._is_stopped.is_set():
                raise StoppedError

        hook = register_module_forward_pre_hook(ask)
        try:
            yield
        finally:
            hook.remove()

    def _on_tuning(self, head: str, revision: str) -> tuple[Verdict, FinalWord]:
        sets = HoldOuts(self._folder, self._ledger.database)
        path = sets.path(sets.in_use(Role.TUNING).name)
        with self._stopping():
            word = measure(self._folder.package(head), self._folder.package(revision), path)
        rule = AcceptRule(scored=self._scored())
        found = word.comparisons
        return gate(found.gains, found.harms, test_index=1, rule=rule), word

    def _scored(self) -> tuple[str, ...]:
        """As in rounds settled by what the gate set can show, before the candidate is seen: a large
        gain has a large error, too."""
        power, _ = standing(self._folder, self._ledger)
        return tuple(one.language for one in power if one.is_scored)

    def _why_not_asked(
        self, tuning: Verdict, word: FinalWord, head: Revision, revision: str, *, is_last: bool
    ) -> str:
        """Why a reading would be wasted, or nothing."""
        if not tuning.accepted:
            return f"not better on the tuning set: {'; '.join(tuning.reasons)}"
        if is_last or not was_trained(self._folder, head.revision):
            return ""
        fall = 1 - sum(word.after.values()) / sum(word.before.values())
        if fall < MIN_FALL:
            return f"bits per byte on the tuning set fell by {fall:.1%}, less than {MIN_FALL:.0%}"
        name = HoldOuts(self._folder, self._ledger.database).in_use(Role.GATE).name
        readings = Readings(self._ledger.database)
        if name in readings.of(subject_of(revision, base=head.revision)):
            return ""  # paid, before a kill
        left = max_readings(self._ledger) - readings.count(name)
        if left <= READINGS_LEFT:
            return f"the last {left} readings of {name} are for the last checkpoint and for rounds"
        return ""

    def _gate(self, step: int, head: Revision, revision: str) -> Decided:
        with self._stopping():
            gated = pass_gate(
                self._folder,
                self._ledger,
                base=head.revision,
                candidate=revision,
                scored=self._scored(),
            )
        said = f"held-out set {gated.hold_out}, reading {gated.reading}: {gated.text}"
        if gated.verdict.accepted:
            return self._publish(step, head, revision, said, gated.word)
        amend_card(self._folder.package(revision), head.revision, f"not passed; {said}", gated.word)
        return Decided(step, revision, "failed", said)

    def _publish(
        self, step: int, head: Revision, revision: str, said: str, word: FinalWord
    ) -> Decided:
        amend_card(self._folder.package(revision), head.revision, f"passed; {said}", word)
        why = f"the base was trained on: {revision[:12]}"
        move = Move(head=head, revision=revision, kind=Kind.PRETRAINING, why=why)
        move_head(self._folder, self._ledger, move)
        return Decided(step, revision, "published", said)

    def _head(self) -> Revision:
        head = Lineage(self._ledger.database).head()
        if head is None:
            raise RoundError("the run has no model", rule="a plan begins from one")
        return head
