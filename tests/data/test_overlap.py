"""Shared windows, found by hashes, against comparison of the bytes themselves."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.data.overlap import COMMON, Field, Texts, normalise, short_pieces
from seshu_swarm.data.rolling import HashSet, hash_of, ranges, window_hashes

# Few letters and long texts, so that windows are shared by chance as well.
texts = st.lists(st.text("ab ", max_size=160), min_size=2, max_size=6)


def windows(text: bytes) -> set[bytes]:
    return {text[i : i + 50] for i in range(len(text) - 49)}


def begins_word(text: bytes, piece: bytes) -> bool:
    return text.startswith(piece) or b" " + piece in text


def share(held: bytes, suspect: bytes) -> bool:
    """The definition, byte by byte."""
    if windows(held) & windows(suspect):
        return True
    return any(begins_word(suspect, piece) for piece in short_pieces(held))


def mask(num_items: int, *items: int) -> np.ndarray:
    found = np.zeros(num_items, dtype=np.bool_)
    found[list(items)] = True
    return found


@given(texts)
def test_hits_are_those_of_the_definition(found: list[str]) -> None:
    fields = [Field(i, normalise(text)) for i, text in enumerate(found)]
    held = mask(len(fields), 0)
    hits = Texts(fields, len(fields)).hits(held, ~held)
    expected = {i for i in range(1, len(fields)) if share(fields[0].text, fields[i].text)}
    assert {hit.item for hit in hits} == expected
    pieces = windows(fields[0].text) | set(short_pieces(fields[0].text))
    for hit in hits:
        text = fields[hit.item].text[hit.start : hit.end]
        assert text in pieces or windows(text) <= pieces


@pytest.mark.parametrize("size_bytes", [65, 66, 80, 120])
def test_every_shared_text_of_65_bytes_makes_neighbours(size_bytes: int) -> None:
    rng = random.Random(size_bytes)
    for _ in range(20):
        parts = ["".join(rng.choices("abcdefgh", k=rng.randrange(60, 200))) for _ in range(6)]
        common = "".join(rng.choices("abcdefgh", k=size_bytes))
        fields = [Field(0, (parts[0] + common + parts[1]).encode())]
        fields += [Field(1, (parts[2] + common + parts[3]).encode())]
        fields += [Field(2, (parts[4] + parts[5]).encode())]
        assert Texts(fields, 3).neighbours() == [(0, 1)]


def test_neighbours_are_those_that_share_windows_most_shared_first() -> None:
    rng = random.Random(0)
    base = "".join(rng.choices("abcdefgh", k=3000))
    pieces = [base[0:1000], base[100:1100], base[980:1080], base[1085:2000], base[2000:2049]]
    texts = Texts([Field(i, piece.encode()) for i, piece in enumerate(pieces)], len(pieces))
    pairs = texts.neighbours()
    sharing = {
        pair
        for pair in combinations(range(5), 2)
        if windows(pieces[pair[0]].encode()) & windows(pieces[pair[1]].encode())
    }
    assert pairs[0] == (0, 1) and set(pairs) <= sharing
    assert {(0, 1), (1, 2)} <= set(pairs)


def test_what_very_many_share_joins_nobody() -> None:
    refrain = "".join(random.Random(1).choices("abcdefgh", k=100)).encode()
    fields = [Field(i, refrain) for i in range(COMMON + 1)]
    assert Texts(fields, len(fields)).neighbours() == []
    assert len(Texts(fields[:COMMON], COMMON).neighbours()) == COMMON - 1


def test_a_common_instruction_is_a_template_but_a_common_answer_is_not() -> None:
    template = b"translate the following sentence from english into hindi please"
    for is_instruction in (True, False):
        fields = [Field(i, template, is_instruction) for i in range(COMMON + 2)]
        held = mask(len(fields), 0)
        hits = Texts(fields, len(fields)).hits(held, ~held)
        assert bool(hits) is not is_instruction


def test_comparison_ignores_case_joiners_and_spaces() -> None:
    assert normalise("തായ്\u200cലാൻഡ്  A\u200d\nB ") == "തായ്ലാൻഡ് a b".encode()


def test_windows_hash_alike_across_chunks() -> None:
    rng = np.random.default_rng(0)
    buffer = rng.integers(0, 256, (1 << 20) + 500, dtype=np.uint8)
    hashes = window_hashes(buffer)
    for start in (0, 17, (1 << 20) - 60, (1 << 20) - 49, (1 << 20) - 1, 1 << 20, (1 << 20) + 450):
        assert int(hashes[start]) == hash_of(buffer[start : start + 50].tobytes())


@given(st.lists(st.integers(0, 2**64 - 1)), st.lists(st.integers(0, 2**64 - 1)))
def test_a_hash_set_knows_its_members(members: list[int], others: list[int]) -> None:
    asked = np.asarray(members[::2] + others, dtype=np.uint64)
    found = HashSet(np.asarray(members, dtype=np.uint64)).positions_in(asked)
    assert found.tolist() == [i for i, value in enumerate(asked.tolist()) if value in members]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9))))
def test_ranges(intervals: list[tuple[int, int]]) -> None:
    starts = np.asarray([a for a, _ in intervals], dtype=np.int64)
    ends = np.asarray([a + n for a, n in intervals], dtype=np.int64)
    assert ranges(starts, ends).tolist() == [k for a, n in intervals for k in range(a, a + n)]


def test_thirteen_short_words_count_as_a_window() -> None:
    words = [f"w{i}" for i in range(14)]
    pieces = short_pieces(" ".join(words).encode())
    assert " ".join(words[:13]).encode() in pieces and " ".join(words[1:]).encode() in pieces
    assert short_pieces(b"a" * 31) == [] and short_pieces(b"a" * 50) == []
    assert short_pieces(b"a" * 32) == [b"a" * 32]
