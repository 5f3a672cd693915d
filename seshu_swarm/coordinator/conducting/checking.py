"""Words of members that cannot be true. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from seshu_swarm.pipeline.group import Ids, StageGroup, StagePhase
from seshu_swarm.pipeline.messages import MicrobatchId, Phase, Status

# Trainer → stage and replica → numbers that it asked the replica to count.
Asked = Mapping[str, Mapping[tuple[int, str], Collection[int]]]


def unlikely(group: StageGroup, status: Status) -> str:
    """Why no replica that obeyed can have said this, or nothing."""
    if group.can_be(status):
        return ""
    return (
        f"says version {tuple(status.version)}, round {status.round}, where the newest are "
        f"{tuple(group.version)} and {group.round}"
    )


def is_settled(group: StageGroup, status: Status) -> bool:
    """Whether this is a claim on which the group decides now."""
    here = group.version, group.round
    is_decided = group.phase in (StagePhase.SEALING, StagePhase.READY, StagePhase.COMMITTING)
    return is_decided and (status.version, status.round) == here and status.phase > Phase.OPEN


def unasked(place: tuple[int, str], claim: Ids, asked: Asked) -> MicrobatchId | None:
    """The first id that its trainer never asked the replica at `place` to count.

    Trainers that are lost are not in `asked`: what they asked last was perhaps not told, and their ids
    have left the list.
    """
    for id_ in sorted(claim):
        if id_.trainer in asked and id_.number not in asked[id_.trainer].get(place, ()):
            return id_
    return None


def foreign(name: str, claim: Ids) -> MicrobatchId | None:
    """The first id in a trainer's own claim, for the ends, that is not its own."""
    return next((id_ for id_ in sorted(claim) if id_.trainer != name), None)
