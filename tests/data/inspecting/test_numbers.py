"""Histograms, sampled hashes and reservoirs against exact counts of the same texts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from seshu_swarm.data import phrasebook
from seshu_swarm.data.inspecting.lengths import Lengths
from seshu_swarm.data.inspecting.reading import Item
from seshu_swarm.data.inspecting.repeats import Repeats
from seshu_swarm.data.inspecting.summary import QUANTILES, Summary


@pytest.mark.parametrize("scale", [1, 100, 10_000])
def test_quantiles_are_within_one_per_cent(scale: int) -> None:
    values = 1 + (np.random.default_rng(scale).lognormal(2, 1, 4_000) * scale).astype(int)
    lengths = Lengths()
    for value in values:
        lengths.add(int(value))
    for share in (0.0, *QUANTILES, 1.0):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert lengths.quantile(share) == pytest.approx(exact, rel=0.011, abs=0)
    assert lengths.largest == values.max()
    edges = [0.0, 20.0 * scale, 1e9]
    low = int((values < 20 * scale).sum())
    assert lengths.in_bins(edges) == pytest.approx([low, 4_000 - low], abs=40)


def test_a_histogram_does_not_grow() -> None:
    lengths = Lengths()
    for exponent in range(1, 400):
        lengths.add(int(1.1**exponent))
    assert Lengths().quantile(0.5) == 0
    assert len(lengths._bins) < 2_000


def test_repeats_are_exact_while_there_is_room() -> None:
    texts = [f"Text {i % 300}" for i in range(1_000)]
    repeats = Repeats()
    for text in texts:
        repeats.add(text)
    assert repeats.is_exact
    assert repeats.share == (1_000 - len(set(texts))) / 1_000
    assert repeats.most == max(Counter(texts).values())
    repeats.add("  TEXT   1\n")
    assert repeats.share == (1_001 - 300) / 1_001, "case and white space hide no copy"


def test_repeats_stay_close_where_there_is_no_room() -> None:
    repeats, exact = Repeats(limit=8_000), Counter[str]()
    for i in range(40_000):
        text = f"text {i if i % 4 else i // 40}"  # a quarter are copies of few
        repeats.add(text)
        exact[text] += 1
    true_share = 1 - len(exact) / 40_000
    assert not repeats.is_exact and len(repeats._times) <= 8_000
    assert repeats.share == pytest.approx(true_share, abs=0.04)


def test_numbers_are_those_of_the_phrasebook() -> None:
    documents = phrasebook.build(["hi", "ta"], 0).documents
    summary = Summary(num_samples=3, seed=1)
    for language, found in documents.items():
        for document in found:
            summary.add(Item(document.id, language, document.text))
    for language, numbers in summary.numbers().items():
        texts = [document.text for document in documents[language]]
        assert numbers["rows"] == len(texts)
        assert numbers["bytes"] == sum(len(text.encode()) for text in texts)
        assert numbers["duplicate_share"] == pytest.approx(
            1 - len({" ".join(text.casefold().split()) for text in texts}) / len(texts)
        )
        samples = summary.languages[language].samples
        assert len(set(samples)) == 3 and set(samples) <= set(texts)
        assert float(str(numbers["script_share"])) > 0.9


def test_every_text_may_become_a_sample() -> None:
    seen = Counter[str]()
    for seed in range(300):
        summary = Summary(num_samples=2, seed=seed)
        for i in range(6):
            summary.add(Item("", "hi", str(i)))
        seen.update(summary.languages["hi"].samples)
    assert all(count == pytest.approx(100, abs=35) for count in seen.values()) and len(seen) == 6


def test_script_share_is_weighed_by_bytes() -> None:
    summary = Summary(num_samples=0, seed=0)
    summary.add(Item("", "hi", "क" * 10))  # 30 bytes, all its letters
    summary.add(Item("", "hi", "a" * 10))  # 10 bytes, none
    summary.add(Item("", "xx", "abc"))
    assert summary.languages["hi"].script_share == 0.75
    assert summary.languages["xx"].script_share is None
