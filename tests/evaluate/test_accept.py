"""The accept rule by hand, and by simulation: false alarms about alpha, true gains found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seshu_swarm.evaluate.accept import AcceptRule, Pair, gate, is_worn
from seshu_swarm.evaluate.paired import Comparison, alpha_of_test, compare


def result(delta: float, error: float, num_documents: int = 100) -> Comparison:
    return Comparison(delta, error, delta - 2 * error, delta + 2 * error, 200, num_documents, 0.5)


FLAT = {"hi": result(0, 0.001), "ta": result(0, 0.001)}


def test_bound_by_hand() -> None:
    gains = {"hi": result(-0.02, 0.003), "ta": result(-0.01, 0.004)}
    verdict = gate(gains, FLAT, test_index=1)
    assert verdict.accepted
    assert verdict.delta_bits_per_byte == pytest.approx(-0.015)
    assert verdict.standard_error == pytest.approx(0.0025)  # sqrt(9 + 16) / 2 thousandths
    assert verdict.z == pytest.approx(1.875, abs=0.001)
    assert verdict.bound == pytest.approx(-0.015 + 1.875 * 0.0025, abs=1e-5)
    assert verdict.smallest_detectable_gain == pytest.approx((1.875 + 0.8416) * 0.0025, abs=1e-5)


def test_later_readings_of_a_held_out_set_ask_for_more() -> None:
    gains = {"hi": result(-0.008, 0.003), "ta": result(-0.008, 0.003)}
    # SE 0.00212: z 1.87 leaves -0.0040, z 3.43 leaves -0.0007, above -0.001.
    assert gate(gains, FLAT, test_index=1).accepted
    assert not gate(gains, FLAT, test_index=10).accepted


def test_a_gain_below_the_smallest_that_counts() -> None:
    gains = {"hi": result(-0.0009, 1e-6)}
    assert not gate(gains, FLAT, test_index=1).accepted
    assert gate(gains, FLAT, test_index=1, rule=AcceptRule(min_gain=0.0005)).accepted


def test_one_harmed_language_is_enough() -> None:
    gains = {"hi": result(-0.1, 0.003), "ta": result(-0.1, 0.003)}
    harmful = FLAT | {"ta": result(0.008, 0.002)}  # 0.008 + 1.645 · 0.002 > 0.01
    verdict = gate(gains, harmful, test_index=1)
    assert not verdict.accepted and verdict.harmed == ("ta",)
    assert any("ta may be harmed" in reason for reason in verdict.reasons)
    assert gate(gains, FLAT | {"ta": result(0.006, 0.002)}, test_index=1).accepted


def test_few_documents_are_held_to_the_point_estimate() -> None:
    gains = {"hi": result(-0.1, 0.003)}
    assert gate(gains, {"ta": result(0.009, 0.5, 5)}, test_index=1).accepted
    assert not gate(gains, {"ta": result(0.011, 0.0, 5)}, test_index=1).accepted


def test_nan_is_never_accepted() -> None:
    nan = result(math.nan, math.nan)
    assert not gate({"hi": nan}, FLAT, test_index=1).accepted
    assert not gate({"hi": result(-0.1, 0.003)}, {"ta": nan}, test_index=1).accepted


def test_a_wrecked_language_does_not_hide_behind_its_own_noise() -> None:
    # Too noisy to be scored, and half a bit per byte worse on answers.
    gains = {"hi": result(-0.05, 0.003), "ta": result(0.5, 0.05)}
    verdict = gate(gains, FLAT, test_index=1)
    assert not verdict.accepted and verdict.harmed == ("ta",) and verdict.unscored == ("ta",)
    assert any("answers in ta are worse: +0.500" in reason for reason in verdict.reasons)
    nan = result(math.nan, math.nan)
    assert not gate(gains | {"ta": nan}, FLAT, test_index=1).accepted
    assert not gate(gains | {"ta": result(math.nan, math.nan, 3)}, FLAT, test_index=1).accepted
    # Worse within the margin, or not surely worse, is for the mean to weigh.
    for kind in (result(0.012, 0.002), result(0.1, 0.08)):
        assert gate(gains | {"ta": kind}, FLAT, test_index=1).harmed == ()


def test_power_is_what_was_known_before() -> None:
    gains = {"hi": result(-0.05, 0.003), "ta": result(-0.05, 0.1)}
    both = gate(gains, FLAT, test_index=1, rule=AcceptRule(scored=("hi", "ta")))
    assert both.unscored == () and not both.accepted
    one = gate(gains, FLAT, test_index=1, rule=AcceptRule(scored=("hi",)))
    assert one.unscored == ("ta",) and one.accepted
    none = gate(gains, FLAT, test_index=1, rule=AcceptRule(scored=()))
    assert not none.accepted


def test_a_gate_is_worn_when_it_sees_more_and_more() -> None:
    def pair(gate_gain: float, report_gain: float) -> Pair:
        return {"hi": result(-gate_gain, 0.003)}, {"hi": result(-report_gain, 0.004)}

    # The gap of a first reading says that the sets differ: errors of a gap are 0.005.
    assert not is_worn([]) and not is_worn([pair(0.09, 0.01)])
    steady = [pair(0.05, 0.03), pair(0.04, 0.02), pair(0.06, 0.05)]
    assert not is_worn(steady)
    # Two gaps differ by sqrt(2) · 0.005: 0.0141 is twice that.
    assert not is_worn([*steady, pair(0.05, 0.017)])
    assert is_worn([*steady, pair(0.05, 0.015)])
    assert is_worn([*steady, pair(0.05, 0.015), pair(0.05, 0.05)])


def test_languages_without_power_are_named_and_count_for_nothing() -> None:
    gains = {"hi": result(-0.02, 0.003), "ta": result(-0.9, 0.003, 19), "bn": result(-0.9, 0.03)}
    verdict = gate(gains, FLAT, test_index=1)
    assert verdict.accepted and verdict.unscored == ("bn", "ta")
    assert verdict.delta_bits_per_byte == pytest.approx(-0.02)
    none = gate({"ta": gains["ta"]}, FLAT, test_index=1)
    assert not none.accepted and none.unscored == ("ta",)


def simulated_share(mean_nats: float, *, num_rounds: int = 400, min_gain: float = 0.0) -> float:
    """Share of accepted candidates whose 150 documents in two languages differ by noise."""
    rng = np.random.default_rng(11)
    documents = [f"d{i}" for i in range(150)]
    rule = AcceptRule(min_gain=min_gain)
    accepted = 0
    for _ in range(num_rounds):
        gains = {
            language: compare(
                rng.normal(mean_nats, 2.0, 150),
                np.zeros(150),
                num_bytes=[200] * 150,
                documents=documents,
            )
            for language in ("hi", "ta")
        }
        accepted += gate(gains, {}, test_index=1, rule=rule).accepted
    return accepted / num_rounds


def test_false_alarms_are_about_alpha() -> None:
    share = simulated_share(0.0)
    # 400 rounds at 3 % give 12 ± 3.4.
    assert 0.005 < share < alpha_of_test(1) + 3 * 0.0085
    assert simulated_share(0.0, min_gain=0.001) < share + 1e-9


def test_true_gains_are_found() -> None:
    # The error of the macro mean is 2 / sqrt(150) / sqrt(2) = 0.115 nats; 0.5 is 4.3 of them.
    assert simulated_share(-0.5, num_rounds=100) > 0.97
