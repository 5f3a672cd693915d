"""Arrays to train on: every token once, labels on answers only, languages in their shares."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.data.batches import batch_rows, mix, mixture, pack_documents
from seshu_swarm.data.prompts import encode_row
from seshu_swarm.data.text import Document, Row
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import DataError, UsageError

tokeniser = ByteTokeniser()
encoded = st.lists(
    st.lists(st.integers(1, 258), min_size=1, max_size=30).flatmap(
        lambda ids: st.tuples(st.just(ids), st.integers(0, len(ids) - 1))
    ),
    max_size=40,
)


def test_documents_are_packed_whole_with_ends_between() -> None:
    documents = [Document(f"d{i}", "hi", "क" * i) for i in range(1, 30)]
    packed = pack_documents(tokeniser, documents, 16, np.random.default_rng(0))
    assert packed.dtype == np.int32 and packed.shape[1] == 16
    total = sum(len(d.text.encode()) + 1 for d in documents)
    assert packed.shape[0] == total // 16
    stream = packed.ravel().tolist()
    ends = [i for i, token in enumerate(stream) if token == tokeniser.eos_id]
    starts = [0, *(i + 1 for i in ends)]
    texts = [tokeniser.decode(stream[a:b]) for a, b in zip(starts, ends, strict=False)]
    assert len(set(texts)) == len(texts) >= 27 and set(texts) <= {d.text for d in documents}
    assert texts != sorted(texts, key=len)
    again = pack_documents(tokeniser, documents, 16, np.random.default_rng(0))
    assert np.array_equal(again, packed)


def test_too_little_text_to_pack_is_refused() -> None:
    with pytest.raises(DataError, match="1 documents with 4 tokens"):
        pack_documents(tokeniser, [Document("d", "hi", "क")], 5, np.random.default_rng(0))
    with pytest.raises(DataError, match="0 documents"):
        pack_documents(tokeniser, [], 5, np.random.default_rng(0))


@given(encoded, st.integers(30, 200))
def test_batches_hold_every_row_once_and_fit(
    rows: list[tuple[list[int], int]], max_tokens: int
) -> None:
    found = Counter[tuple[tuple[int, ...], int]]()
    for ids_BL, labels_BL in batch_rows(rows, max_tokens, np.random.default_rng(1)):
        assert ids_BL.dtype == labels_BL.dtype == np.int64
        assert ids_BL.shape == labels_BL.shape and ids_BL.size <= max_tokens
        for ids, labels in zip(ids_BL.tolist(), labels_BL.tolist(), strict=True):
            length = sum(token != 0 for token in ids)
            num_prompt_tokens = next(i for i, label in enumerate(labels) if label != -100)
            assert labels[num_prompt_tokens:length] == ids[num_prompt_tokens:length]
            assert set(labels[:num_prompt_tokens] + labels[length:]) <= {-100}
            found[tuple(ids[:length]), num_prompt_tokens] += 1
    assert found == Counter((tuple(ids), n) for ids, n in rows)


def test_labels_spell_the_answer_and_its_end() -> None:
    row = Row("Name", "Japan", "जापान", "hi")
    batch = batch_rows([encode_row(tokeniser, row, 100)], 100, np.random.default_rng(0))
    [(_, labels_BL)] = list(batch)
    labels = labels_BL[labels_BL != -100].tolist()
    assert tokeniser.decode(labels) == "जापान" and labels[-1] == tokeniser.eos_id


def test_little_padding_and_random_order() -> None:
    rng = np.random.default_rng(2)
    rows = [([5] * int(n), 0) for n in rng.integers(10, 400, 500)]
    batches = list(batch_rows(rows, 4_000, rng))
    padded = sum(ids.size for ids, _ in batches)
    assert sum(len(ids) for ids, _ in rows) / padded > 0.9
    widths = [ids.shape[1] for ids, _ in batches]
    assert widths != sorted(widths)


def test_a_row_that_fits_no_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="a row of 9 tokens in batches of 8"):
        list(batch_rows([([5] * 9, 0)], 8, np.random.default_rng(0)))
    assert list(batch_rows([], 8, np.random.default_rng(0))) == []


def test_mixture_is_the_root_of_the_size() -> None:
    assert mixture({"a": 400, "b": 100, "c": 0}) == pytest.approx({"a": 2 / 3, "b": 1 / 3, "c": 0})
    assert mixture({"a": 3, "b": 1}, power=1.0) == pytest.approx({"a": 0.75, "b": 0.25})
    with pytest.raises(DataError, match="no text"):
        mixture({"a": 0})


def test_mixed_items_have_their_share_of_bytes() -> None:
    items = {"a": ["x" * 40] * 10_000, "b": ["y" * 400] * 250}  # 400 kB and 100 kB
    mixed = mix(items, 4_000, np.random.default_rng(3), size_of=len)
    sizes = Counter[str]()
    for item in mixed:
        sizes[item[0]] += len(item)
    assert sizes["x"] / sizes.total() == pytest.approx(2 / 3, abs=0.03)


def test_mixing_uses_every_item_before_any_comes_again() -> None:
    mixed = mix({"a": list(range(100))}, 250, np.random.default_rng(4), size_of=lambda _: 1)
    assert sorted(mixed[:100]) == list(range(100)) == sorted(mixed[100:200])
    assert mixed[:100] != mixed[100:200]
