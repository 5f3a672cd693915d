"""The pipeline's rules under everything that can happen, from one seed; no clock, sockets or threads.

`python -m tests.pipeline.simulator SEED` tells the story of one history.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

from seshu_swarm.pipeline.messages import FIRST, NOTHING
from tests.pipeline.replicas import Actor, Replica, Swarm
from tests.pipeline.trainers import Conducting, Trainer
from tests.sessions.network import World, WrongError

LONGEST_PAUSE = 40.0


class History:
    """A storm over trainers and replicas, then calm weather until some steps are done; the accounts
    are then checked."""

    def __init__(self, seed: int, say: Callable[[str], None] | None = None) -> None:
        self.world = World(seed, say)
        rng = self.world.rng
        self.swarm = Swarm(self.world)
        self.num_stages = rng.choice((1, 2, 3))
        self.num_started = 0
        # Somebody was killed who alone had applied an average: if the others were taken for lost at
        # the same time, the stage's weights are gone, and only a checkpoint helps.
        self.is_risky = False
        self.calm_since = math.inf
        for stage in range(self.num_stages):
            for _ in range(rng.choice((1, 2, 2, 3))):
                self._start_replica(stage, is_first=True)
        self.conducting = Conducting(
            self.swarm, num_stages=self.num_stages, num_steps=rng.choice((3, 5))
        )
        per_step = rng.choice((1, 2, 4))
        self.trainers = [
            Trainer(f"t{i}", self.swarm, per_step) for i in range(rng.choice((1, 2, 3)))
        ]

    def run(self) -> None:
        """Raises WrongError."""
        rng, storm = self.world.rng, self.world.rng.choice((20.0, 60.0, 120.0))
        for _ in range(rng.randrange(10)):
            self.world.at(rng.random() * storm, self._strike, rng.choice(FAULTS))
        self.world.at(storm, self._calm)
        self._watch()
        self.world.run()
        self._check_end()

    def kill(self) -> None:
        """kill -9 of a replica, unless its stage would lose its weights for good."""
        replica = self.world.rng.choice(self._replicas())
        is_safe = self._has_twin(replica)
        if is_safe or self._can_be_done_again(replica):
            self.is_risky |= not is_safe
            self.swarm.directory[replica.stage].remove(replica.name)
            self._end(replica, is_noticed=not is_safe or self.world.rng.random() < 0.7)
            self.world.after(self.world.rng.random() * 30.0, self._start_replica, replica.stage)

    def pause(self) -> None:
        self._pause(self.world.rng.choice(self._replicas()))

    def pause_trainer(self) -> None:
        if len(self.trainers) > 1:
            self._pause(self.world.rng.choice(self.trainers[1:]))

    def join(self) -> None:
        self._start_replica(self.world.rng.randrange(self.num_stages))

    def kill_trainer(self) -> None:
        """Its data is elsewhere, too: it comes again under another name. The first one stays, with the
        conductor beside it."""
        living = [t for t in self.trainers[1:] if t.is_alive]
        if living:
            trainer = self.world.rng.choice(living)
            self._end(trainer, is_noticed=False)
            self.world.after(self.world.rng.random() * 30.0, self._start_trainer, trainer)

    def restart_conductor(self) -> None:
        self.conducting.restart()

    def _strike(self, fault: Callable[[History], None]) -> None:
        if not self.conducting.is_over:
            self.world.note(f"-- {fault.__name__}")
            fault(self)

    def _replicas(self) -> list[Replica]:
        return [p for p in self.swarm.places.values() if isinstance(p, Replica)]

    def _has_twin(self, replica: Replica) -> bool:
        """Whether another one has these weights or newer ones."""
        others = [r for r in self._replicas() if r.stage == replica.stage and r is not replica]
        return any(r.ledger.version >= replica.ledger.version for r in others)

    def _can_be_done_again(self, replica: Replica) -> bool:
        """Whether it alone applied an average for which the conductor waits for others, too."""
        group = self.conducting.conductor.groups[replica.stage]
        others = [r for r in self._replicas() if r is not replica and r.name in group.members]
        waiting = [r for r in others if r.name in group.statuses]
        waiting = [r for r in waiting if r.ledger.version == group.version]
        return replica.ledger.version > group.version and bool(waiting)

    def _end(self, actor: Actor, *, is_noticed: bool) -> None:
        self.world.note(f"{actor.name} is killed")
        actor.kill()
        if is_noticed:
            self.conducting.closed(actor.name)

    def _pause(self, actor: Actor) -> None:
        actor.paused_until = self.world.now + self.world.rng.choice((5.0, 15.0, LONGEST_PAUSE))
        self.world.note(f"{actor.name} pauses until {actor.paused_until:.2f}")

    def _start_replica(self, stage: int, is_first: bool = False) -> None:
        self.num_started += 1
        name = f"s{stage}r{self.num_started}"
        if is_first:
            Replica(name, stage, self.swarm, FIRST)
        else:
            Replica(name, stage, self.swarm)

    def _start_trainer(self, former: Trainer) -> None:
        if not self.conducting.is_over:
            self.num_started += 1
            name = f"{former.name.partition('#')[0]}#{self.num_started}"
            self.trainers.append(Trainer(name, self.swarm, former.per_step))

    def _calm(self) -> None:
        self.world.note("calm")
        self.calm_since = self.world.now
        self.world.calm_down()

    def _watch(self) -> None:
        """Lets the trainers' clocks stop when all is done."""
        if self.conducting.is_over or self.is_doomed:
            self.conducting.is_stopped = True
            for trainer in self.trainers:
                trainer.is_over = True
        else:
            self.world.after(1.0, self._watch)

    @property
    def is_doomed(self) -> bool:
        """Nobody lives who has what a stage has committed, nor is anybody still paused on the way to it."""
        if not self.is_risky or self.world.now < self.calm_since + 2 * LONGEST_PAUSE:
            return False
        newest = dict.fromkeys(range(self.num_stages), NOTHING)
        for replica in self._replicas():
            newest[replica.stage] = max(newest[replica.stage], replica.ledger.version)
        groups = enumerate(self.conducting.conductor.groups)
        return any(newest[stage] < group.version for stage, group in groups)

    def _check_end(self) -> None:
        """At every stage, every id of every step went into the weights exactly once."""
        if not self.conducting.is_over and self.is_doomed:
            self.world.note("a stage has LOST ITS WEIGHTS")
            return
        if not self.conducting.is_over:
            raise WrongError(f"{len(self.conducting.steps)} steps, then nothing happened any more")
        for stage, group in enumerate(self.conducting.conductor.groups):
            weights = self.swarm.weights[stage, group.version]
            if len(weights) != len(self.conducting.steps):
                raise WrongError(f"stage {stage} made {len(weights)} steps")
            for step, (ids, forfeited) in enumerate(self.conducting.steps):
                found = weights[step]
                lacking = ids - set(found)
                if len(set(found)) != len(found) or not set(found) <= ids:
                    raise WrongError(f"stage {stage}, step {step}: counted {found}")
                if not {(stage, i) for i in lacking} <= forfeited:
                    raise WrongError(f"stage {stage}, step {step}: {sorted(lacking)} is lost")


FAULTS: tuple[Callable[[History], None], ...] = (
    History.kill,
    History.kill,
    History.kill,
    History.pause,
    History.pause,
    History.pause_trainer,
    History.join,
    History.kill_trainer,
    History.restart_conductor,
)


if __name__ == "__main__":
    History(int(sys.argv[1]), print).run()
