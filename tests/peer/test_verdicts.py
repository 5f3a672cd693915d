"""What a donor is told: every word has a reason, a gain and a next step."""

from __future__ import annotations

import pytest

from seshu_swarm.errors import RefusalError
from seshu_swarm.peer.donating.verdicts import (
    passes_by_itself,
    with_next_step,
    word_of_refusal,
    word_of_verdict,
)
from seshu_swarm.streams.channel import refusal
from seshu_swarm.streams.protocol import Refusal, Verdict


def verdict(state: str, gain: str = "", next_step: str = "") -> Verdict:
    return Verdict(
        state=state, reason="NO_GAIN: it adds 0", gain=gain, next_step=next_step, round_index=3
    )


def test_a_verdict_is_one_line_with_all_four_parts() -> None:
    word = word_of_verdict(verdict("rejected", "-0.002 bits per byte", "bring more rows"))
    assert str(word) == (
        "rejected: NO_GAIN: it adds 0; gain: -0.002 bits per byte; next: bring more rows"
    )


@pytest.mark.parametrize("state", ["accepted", "rejected"])
def test_what_the_coordinator_leaves_open_is_said_anyway(state: str) -> None:
    word = word_of_verdict(verdict(state))
    assert word.gain == "not measured" and word.next_step


@pytest.mark.parametrize("which", list(Refusal))
def test_every_refusal_has_its_name_its_detail_and_a_next_step(which: Refusal) -> None:
    error = refusal(which, "4 adapters a round")
    word = word_of_refusal(error)
    assert word.state == "refused" and word.gain and word.next_step
    assert word.reason == f"{which.name}: {which.value}; 4 adapters a round"
    told = with_next_step(error)
    assert (told.name, told.what, told.way_out) == (which.name, error.what, word.next_step)


def test_refusals_that_a_donor_can_mend_say_how() -> None:
    said = {which: word_of_refusal(refusal(which, "")).next_step for which in Refusal}
    assert "--follow" in said[Refusal.STALE_BASE] and "--seed" in said[Refusal.NOT_OWNER]
    assert "--task" in said[Refusal.NOT_FOR_MERGING]
    mended = [w for w in Refusal if "report this line" not in said[w]]
    assert {Refusal.ROUND_CLOSED, Refusal.RATE_LIMITED, Refusal.RUN_UNKNOWN} <= set(mended)


def test_a_way_out_that_came_with_it_is_kept() -> None:
    error = RefusalError("INTERNAL", "I failed", way_out="upgrade")
    assert word_of_refusal(error).next_step == "upgrade"


def test_only_a_closed_round_and_hasty_questions_are_waited_out() -> None:
    passing = {w for w in Refusal if passes_by_itself(refusal(w, ""), is_known=False)}
    assert passing == {Refusal.ROUND_CLOSED}
    passing = {w for w in Refusal if passes_by_itself(refusal(w, ""), is_known=True)}
    assert passing == {Refusal.ROUND_CLOSED, Refusal.RATE_LIMITED}
