"""What a gate set can show, against sums done by hand."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from seshu_swarm.coordinator.opening.power import (
    ASSUMED_NOISE,
    Power,
    measured_noise,
    power_table,
    powers,
)
from seshu_swarm.evaluate.accept import AcceptRule


def test_the_smallest_gain_by_hand() -> None:
    [found] = powers({"hi": 400}, readings=0, max_readings=10, noise={"hi": 0.5})
    # α of the first reading is 6·0.05/π²; the error of 400 documents 0.5/20.
    z = NormalDist().inv_cdf(1 - 0.3 / math.pi**2) + NormalDist().inv_cdf(0.95)
    assert found.smallest_detectable == pytest.approx(z * 0.025)
    assert found == Power("hi", 400, 10, found.smallest_detectable, False)
    assert z * 0.025 == pytest.approx(0.0880, abs=1e-4)


def test_each_reading_costs_power_and_more_documents_bring_it_back() -> None:
    def smallest(num_documents: int, readings: int) -> float:
        found = powers({"ta": num_documents}, readings=readings, max_readings=10, noise={})
        return found[0].smallest_detectable

    assert smallest(100, 0) < smallest(100, 1) < smallest(100, 9)
    assert smallest(400, 3) == pytest.approx(smallest(100, 3) / 2)
    [spent] = powers({"ta": 100}, readings=12, max_readings=10, noise={})
    assert spent.readings_left == 0


@pytest.mark.parametrize(
    ("num_documents", "noise", "is_scored"),
    [(19, 0.0001, False), (20, 0.0001, True), (100, 0.06, True), (100, 0.3, False), (0, 0, False)],
)
def test_a_language_below_power_is_unscored(
    num_documents: int, noise: float, is_scored: bool
) -> None:
    [found] = powers(
        {"bn": num_documents},
        readings=0,
        max_readings=10,
        noise={"bn": noise},
        rule=AcceptRule(min_documents=20, max_detectable=0.05),
    )
    assert found.is_scored is is_scored


def test_noise_is_what_gates_measured() -> None:
    def gate(error: float, documents: int) -> dict[str, object]:
        gains = {"hi": {"standard_error": error, "num_documents": documents}}
        return {"comparisons": {"gains": gains}}

    # 0.01·√100, 0.02·√100, 0.1·√25: the median is 0.2.
    noise = measured_noise([gate(0.01, 100), gate(0.02, 100), gate(0.1, 25)])
    assert noise == {"hi": pytest.approx(0.2)}
    assert measured_noise([]) == {}


def test_the_table_says_where_its_noise_comes_from() -> None:
    found = powers({"hi": 400, "ta": 3}, readings=2, max_readings=10, noise={})
    assumed, measured = (power_table(found, is_measured=m) for m in (False, True))
    assert f"assumed: {ASSUMED_NOISE:g}" in str(assumed.title) and "measured" in str(measured.title)
    last = [str(cell) for cell in assumed.columns[-1].cells]
    assert last == ["scored", "unscored: needs more text"]
