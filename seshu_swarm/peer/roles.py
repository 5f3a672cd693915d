"""What the swarm lacks most: stages while it pretrains, hosts where blocks are thin, else donors. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

ENOUGH_HOSTS = 2


class Role(StrEnum):
    STAGE = "stage"
    HOST = "host"
    FINETUNE = "finetune"


def choose_role(
    covered: Sequence[int], *, has_data: bool, deals_data: bool, pretrains: bool = False
) -> tuple[Role, str]:
    """The role and the reason to tell the owner.

    Who holds a stage hosts its blocks too, and adapters for a model that is not trained yet are worth
    nothing. A block without a peer stops everybody, and one with a single peer stops everybody when that
    one leaves; only then are adapters worth more than hosting.
    """
    if pretrains:
        return Role.STAGE, "the run pretrains, and each replica of a stage makes it faster"
    thin = [block for block, peers in enumerate(covered) if peers < ENOUGH_HOSTS]
    if thin:
        return Role.HOST, f"block {thin[0]} has {covered[thin[0]]} of {ENOUGH_HOSTS} peers"
    if has_data:
        return Role.FINETUNE, f"every block has {ENOUGH_HOSTS} peers, and you brought data"
    if deals_data:
        return Role.FINETUNE, f"every block has {ENOUGH_HOSTS} peers, and the run deals shards"
    return Role.HOST, "the run deals no data and you brought none"
