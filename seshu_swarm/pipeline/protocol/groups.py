"""What the members of a group give one another.

AVERAGES   one stream for one shard: GiveShard, Chunks → ShardAveraged, Chunks
STATES     weights and moments of a group at a version: AskGroupState → GroupState, Chunks
"""

from __future__ import annotations

from seshu_swarm.pipeline.protocol.fields import Group, Name, Round, VersionPair
from seshu_swarm.records.fields import Count, Digest, PlanId
from seshu_swarm.streams.protocol import Message

AVERAGES = "seshu/averages"
STATES = "seshu/states"


class GiveShard(Message):
    """First message on AVERAGES: the sender's part of the shard that the receiver averages; `num_bytes` of
    float32 follow as Chunks, the sum over the `weight` ids that the sender counted."""

    plan: PlanId
    group: Group
    version: VersionPair
    round: Round
    sender: Name
    weight: Count
    num_bytes: Count


class ShardAveraged(Message):
    """The receiver's shard, averaged over all members, follows as Chunks."""

    num_bytes: Count


class AskGroupState(Message):
    """First message on STATES."""

    plan: PlanId
    group: Group
    version: VersionPair


class GroupState(Message):
    """A safetensors file follows as Chunks; `sha256` is that of its bytes."""

    num_bytes: Count
    sha256: Digest
