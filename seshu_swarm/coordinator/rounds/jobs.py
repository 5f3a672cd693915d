"""A round's scoring jobs: which held-out set each phase reads, and what the scorer is handed.

A reading of the gate is paid for before it is made. A scorer that fails is started again a few
times, over restarts of the coordinator too; then the round is given up, so that no adapter can
hold a run for ever.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.coordinator.blind import results
from seshu_swarm.coordinator.blind.asking import Scorers
from seshu_swarm.coordinator.blind.job import Job, Phase
from seshu_swarm.coordinator.blind.search import SelectionRule
from seshu_swarm.coordinator.rounds.candidates import Candidates
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import DeadlineError, RoundError, SeshuError
from seshu_swarm.evaluate.accept import AcceptRule

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 4

Facts = dict[str, Any]


class ScoringJobs:
    """The jobs of one round. `seconds` is the deadline of each."""

    def __init__(
        self, folder: RunFolder, ledger: Ledger, current: Round, *, seconds: float
    ) -> None:
        self._folder, self._ledger, self._current = folder, ledger, current
        self._readings = Readings(ledger.database)
        self._hold_outs = HoldOuts(folder, ledger.database)
        self._scorers = Scorers(folder.scoring_of(current.number), seconds=seconds)

    async def choose(self, candidates: Candidates, rule: SelectionRule) -> Facts:
        """A selection, on the tuning set. Raises DeadlineError, RoundError, as all of these do."""
        held_out = self._hold_outs.in_use(Role.TUNING).name
        job = self._job(Phase.CHOOSE, held_out, rule=asdict(rule), languages=candidates.languages)
        return await self._ask(job, candidates.adapters) | {"rule": asdict(rule)}

    async def decide(self, candidates: Candidates, mixture: Mixture, rule: AcceptRule) -> Facts:
        """The gate's word, with the set that was read and the number of the reading."""
        held_out = self._hold_outs.in_use(Role.GATE).name
        reading = self._readings.note(held_out, self._subject)
        job = self._job(
            Phase.DECIDE,
            held_out,
            mixture=results.mixture_json(mixture),
            rule=asdict(rule),
            test_index=reading,
        )
        members = {name: candidates.adapters[name] for name in mixture.ids}
        about = {"hold_out": held_out, "reading": reading, "rule": asdict(rule)}
        return await self._ask(job, members) | about

    async def conclude(self, revision: str) -> Facts:
        """The final word on a checkpoint as it was written."""
        held_out = self._hold_outs.in_use(Role.FINAL).name
        self._readings.note(held_out, self._subject)
        published = str(self._folder.package(revision))
        job = self._job(Phase.CONCLUDE, held_out, published=published)
        return await self._ask(job, {})

    @property
    def _subject(self) -> str:
        return f"round {self._current.number}"

    def _job(self, phase: Phase, held_out: str, **facts: Any) -> Job:
        return Job(
            phase=phase,
            base=str(self._folder.package(self._current.parent)),
            held_out=str(self._hold_outs.path(held_out)),
            num_threads=torch.get_num_threads(),
            seed=noise_seed(self._current.seed),
            **facts,
        )

    async def _ask(self, job: Job, candidates: Mapping[str, Adapter]) -> Facts:
        last = ""
        while self._attempt(job.phase) <= MAX_ATTEMPTS:
            try:
                return await self._scorers.ask(job, candidates)
            except DeadlineError:
                raise
            except SeshuError as error:
                last = str(error)
                logger.warning("scoring failed: %s", error)
        raise RoundError(
            f"scoring failed {MAX_ATTEMPTS} times ({job.phase}): {last or 'see its log'}"[:400],
            rule="a round that cannot be scored is given up",
        )

    def _attempt(self, phase: Phase) -> int:
        """The number of this attempt, noted before it is made."""
        name = f"attempts {self._current.number} {phase}"
        attempt = int(self._ledger.fact(name) or 0) + 1
        self._ledger.set_fact(name, attempt)
        return attempt


def noise_seed(seed: int) -> int:
    """Another seed than that of the random ids: from the scorer's nobody may draw those again."""
    return int.from_bytes(hashlib.sha256(f"noise {seed}".encode()).digest()[:6])
