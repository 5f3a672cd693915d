"""Spans against brute force."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import UsageError
from seshu_swarm.spans import Span, choose_span, coverage

SPANS = st.tuples(st.integers(0, 11), st.integers(1, 6)).map(lambda p: Span(p[0], p[0] + p[1]))


@given(SPANS)
def test_a_span_reads_as_it_is_written(span: Span) -> None:
    assert Span.parse(str(span)) == span
    assert list(span) == list(range(span.start, span.end)) and len(list(span)) == span.length
    assert span.start in span and span.end not in span


@pytest.mark.parametrize("text", ["", "2", "2:", ":2", "2:2", "3:2", "-1:2", "0:2:4", "a:b", "²:4"])
def test_what_is_no_span_is_said_with_the_way_out(text: str) -> None:
    with pytest.raises(UsageError, match=r"are not a span.*for example --blocks 0:2"):
        Span.parse(text)


@given(st.lists(SPANS), st.integers(1, 14))
def test_coverage_counts_the_spans_that_contain_each_block(
    spans: list[Span], num_blocks: int
) -> None:
    counted = [sum(block in span for span in spans) for block in range(num_blocks)]
    assert coverage(spans, num_blocks) == counted


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 14), st.integers())
def test_no_other_window_is_weaker_than_the_chosen_one(
    covered: list[int], length: int, seed: int
) -> None:
    span = choose_span(covered, length, random.Random(seed))
    assert 0 <= span.start < span.end <= len(covered)
    assert span.length == max(1, min(length, len(covered)))
    chosen = sorted(covered[span.start : span.end])
    for start in range(len(covered) - span.length + 1):
        assert chosen <= sorted(covered[start : start + span.length])


def test_newcomers_do_not_all_choose_the_same_window() -> None:
    starts = {choose_span([1, 1, 1, 1], 2, random.Random(seed)).start for seed in range(30)}
    assert starts == {0, 1, 2}


def test_the_same_rng_chooses_the_same_window() -> None:
    assert choose_span([0] * 9, 3, random.Random(4)) == choose_span([0] * 9, 3, random.Random(4))
