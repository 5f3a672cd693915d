"""Microbatches by number: repeatable, complete, and mixed in the stated shares."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from seshu_swarm.data.text import Document
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.training.feeding import RowBatches, TextBatches, interleaved, packed_text
from seshu_swarm.training.loop import Batch

ROWS = [([*list(range(3, 6 + n % 7)), 100 + n, 1], 2) for n in range(30)]


def rows_in(batch: Batch) -> list[int]:
    """The numbers of the rows: the one id from 100 on."""
    return [int(row[row >= 100][0]) - 100 for row in batch[0]]


def num_batches_of_a_pass() -> int:
    feed = RowBatches(ROWS, max_tokens=40, seed=0)
    seen: set[int] = set()
    for index in range(100):
        seen.update(rows_in(feed(index)))
        if len(seen) == len(ROWS):
            return index + 1
    raise ValueError("a row never came")


def test_every_pass_shows_every_row_once() -> None:
    feed, size = RowBatches(ROWS, max_tokens=40, seed=0), num_batches_of_a_pass()
    passes = [[n for i in range(size) for n in rows_in(feed(p * size + i))] for p in range(3)]
    assert all(sorted(one) == list(range(30)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert all(feed(i)[0].size <= 40 for i in range(3 * size))


def test_rows_are_repeatable_in_any_order() -> None:
    first, second = (RowBatches(ROWS, max_tokens=40, seed=3) for _ in range(2))
    forwards = [first(index) for index in range(20)]
    for index in reversed(range(20)):
        for expected, found in zip(forwards[index], second(index), strict=True):
            assert np.array_equal(expected, found)


def test_prompts_are_not_learned() -> None:
    ids, labels = RowBatches(ROWS[:1], max_tokens=40, seed=0)(0)
    assert ids.tolist() == [[3, 4, 5, 100, 1]]
    assert labels.tolist() == [[-100, -100, 5, 100, 1]]


def test_row_longer_than_a_batch_is_refused() -> None:
    with pytest.raises(UsageError):
        RowBatches(ROWS, max_tokens=4, seed=0)


def text_batches(power: float) -> TextBatches:
    sequences = {"hi": np.full((80, 4), 7, np.int32), "ta": np.full((5, 4), 8, np.int32)}
    return TextBatches(sequences, batch_size=4, seed=0, power=power)


@pytest.mark.parametrize(("power", "share"), [(1.0, 5 / 85), (0.5, 0.2), (0.0, 0.5)])
def test_languages_are_mixed_by_power(power: float, share: float) -> None:
    # 80 and 5 sequences: sqrt gives 4 to 1.
    feed = text_batches(power)
    count = Counter(int(row[0]) for index in range(500) for row in feed(index)[0])
    assert count[8] / sum(count.values()) == pytest.approx(share, abs=0.03)


def test_text_is_repeatable_and_learned_everywhere() -> None:
    expected, found = text_batches(0.5), text_batches(0.5)
    found(90)
    for index in (0, 20, 21, 45):
        ids, labels = found(index)
        assert ids.dtype == np.int64 and ids.shape == (4, 4)
        assert np.array_equal(ids, expected(index)[0]) and np.array_equal(ids, labels)


def test_less_text_than_a_batch_comes_again() -> None:
    sequences = {"hi": np.arange(3, 11, dtype=np.int32).reshape(2, 4)}
    ids, _ = TextBatches(sequences, batch_size=5, seed=0)(0)
    assert Counter(ids[:, 0].tolist()).most_common(1)[0][1] == 3


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.3])
def test_interleaving_keeps_both_orders(share: float) -> None:
    def numbered(sign: int) -> object:
        return lambda index: (np.full((1, 2), sign * (index + 1)), np.zeros((1, 2), np.int64))

    feed = interleaved(numbered(1), numbered(-1), share)  # type: ignore[arg-type]
    seen = [int(feed(index)[0][0, 0]) for index in range(100)]
    assert [n for n in seen if n > 0] == list(range(1, 101 - round(100 * share)))
    assert [-n for n in seen if n < 0] == list(range(1, round(100 * share) + 1))


def test_packed_documents_are_whole_and_their_order_is_the_seed_s() -> None:
    texts = [f"{n:02d}{'x' * 13}" for n in range(8)]  # 16 ids with the end token
    documents = {"hi": [Document(text, "hi", text) for text in texts]}

    def all_of(seed: int) -> list[str]:
        feed = packed_text(documents, batch_size=2, length=16, seed=seed)
        tokeniser = ByteTokeniser()
        assert all((feed(i)[0] == feed(i)[1]).all() for i in range(4))
        return [tokeniser.decode(row[:-1].tolist()) for i in range(4) for row in feed(i)[0]]

    assert sorted(all_of(0)) == sorted(all_of(1)) == texts
    assert all_of(0) == all_of(0) != all_of(1)
    with pytest.raises(DataError, match="at least one sequence of 17 tokens"):
        packed_text({"hi": documents["hi"][:1]}, batch_size=2, length=17, seed=0)
