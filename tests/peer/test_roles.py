"""What the swarm lacks most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.peer.roles import ENOUGH_HOSTS, Role, choose_role


@pytest.mark.parametrize(
    ("covered", "has_data", "deals_data", "role", "said"),
    [
        ([0, 2, 2], True, True, Role.HOST, "block 0 has 0 of 2 peers"),
        ([2, 3, 1], True, True, Role.HOST, "block 2 has 1 of 2 peers"),
        ([2, 2, 2], True, False, Role.FINETUNE, "you brought data"),
        ([2, 2, 2], False, True, Role.FINETUNE, "the run deals shards"),
        ([2, 2, 2], False, False, Role.HOST, "deals no data and you brought none"),
    ],
)
def test_blocks_first_then_adapters(
    covered: list[int], has_data: bool, deals_data: bool, role: Role, said: str
) -> None:
    chosen, reason = choose_role(covered, has_data=has_data, deals_data=deals_data)
    assert chosen is role and said in reason


@given(st.lists(st.integers(0, 5), min_size=1), st.booleans(), st.booleans())
def test_nobody_trains_while_a_block_hangs_on_one_peer(
    covered: list[int], has_data: bool, deals_data: bool
) -> None:
    chosen, reason = choose_role(covered, has_data=has_data, deals_data=deals_data)
    trains = min(covered) >= ENOUGH_HOSTS and (has_data or deals_data)
    assert (chosen is Role.FINETUNE) == trains and reason


@given(st.lists(st.integers(0, 5), min_size=1), st.booleans(), st.booleans())
def test_a_run_that_pretrains_lacks_stages_most(
    covered: list[int], has_data: bool, deals_data: bool
) -> None:
    chosen, reason = choose_role(covered, has_data=has_data, deals_data=deals_data, pretrains=True)
    assert chosen is Role.STAGE and "pretrains" in reason
