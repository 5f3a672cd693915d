"""Levels, intervals and differences of columns against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seshu_swarm.evaluate.columns import MEAN, Column, differences, scores_of
from seshu_swarm.evaluate.evaluation import named_apart
from tests.evaluate.nano import text

LN2 = math.log(2)
TEXTS = {
    "hi": [text("a" * 10, name="1"), text("b" * 30, name="2")],
    "ta": [text("c" * 20, name="3"), text("d" * 20, name="4")],
}
FIRST = Column.of_nats(
    "first", {"hi": np.array([20.0, 20.0]) * LN2, "ta": np.array([20.0, 60.0]) * LN2}
)


def test_levels_are_bits_over_bytes_and_the_mean_is_of_languages() -> None:
    scores = scores_of(FIRST, TEXTS)
    assert [scores[k].bits_per_byte for k in ("hi", "ta", MEAN)] == pytest.approx([1, 2, 1.5])
    hi, ta, mean = (scores[k].standard_error for k in ("hi", "ta", MEAN))
    assert hi is not None and ta is not None
    assert mean == pytest.approx(math.hypot(hi, ta) / 2)
    # Two documents of one size: the draws are 1, 2 and 3 bits per byte.
    assert (scores["ta"].low, scores["ta"].high) == pytest.approx((1, 3))


def test_a_packed_file_has_a_level_and_no_interval() -> None:
    packed = Column.of_bits("xz", {"hi": 80.0, "ta": 40.0})
    scores = scores_of(packed, TEXTS)
    assert [scores[k].bits_per_byte for k in ("hi", "ta", MEAN)] == pytest.approx([2, 1, 1.5])
    assert scores["hi"].low is None and scores[MEAN].standard_error is None
    assert differences(FIRST, packed, TEXTS) == {}


def test_differences_are_paired() -> None:
    worse = Column.of_nats("worse", {k: v + LN2 for k, v in FIRST.nats.items()})
    found = differences(FIRST, worse, TEXTS)
    assert found["ta"].delta_bits_per_byte == pytest.approx(-0.05)
    assert found["ta"].low == pytest.approx(found["ta"].high)  # the same in every draw
    assert found["hi"].high < 0


def test_names_that_are_alike_get_numbers() -> None:
    assert named_apart(["a", "b", "a"]) == ["a (1)", "b", "a (2)"]
