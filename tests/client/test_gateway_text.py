"""Text as it can be sent: whole characters, no stop sequence, every token where it belongs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.client.gateway.choosing import chooser, nucleus
from seshu_swarm.client.gateway.generation import Scored, score
from seshu_swarm.client.gateway.text import Piece, Writer, token_bytes, token_text
from seshu_swarm.client.gateway.wanted import Wanted
from seshu_swarm.data.tokeniser import ByteTokeniser

TOKENISER = ByteTokeniser()
IDS = st.lists(st.integers(0, 383) | st.integers(3, 258), max_size=40)
TEXTS = st.text(st.sampled_from("ab யா😀é\n"), max_size=20)


def write(ids: list[int], stop: list[str], *, echoed: list[int] | None = None) -> list[Piece]:
    writer = Writer(stop)
    pieces = [writer.echo([Scored(i) for i in echoed])] if echoed else []
    for i in ids:
        pieces.append(writer.push(Scored(i)))
        if writer.is_stopped:
            break
    return [*pieces, writer.finish()]


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@given(IDS)
def test_any_bytes_decode_as_a_whole(ids: list[int]) -> None:
    pieces = write(ids, [])
    assert joined(pieces) == TOKENISER.decode(ids)
    assert [p.scored.id for piece in pieces for p in piece.tokens] == ids


@given(TEXTS, st.lists(TEXTS.filter(bool), max_size=3), TEXTS)
def test_a_text_ends_before_its_first_stop(text: str, stops: list[str], prompt: str) -> None:
    """Against the plain search in the whole text; what is echoed is never searched."""
    pieces = write(TOKENISER.encode(text), stops, echoed=TOKENISER.encode(prompt))
    # A stop is seen when its last byte comes, so the one that ends first cuts.
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    first = min((end for end, _ in ends), default=0)
    cut = min((start for end, start in ends if end == first), default=len(text))
    assert joined(pieces) == prompt + text[:cut]


@given(TEXTS)
def test_no_character_is_split_and_each_token_is_where_its_character_begins(text: str) -> None:
    pieces = write(TOKENISER.encode(text), [])
    assert "\ufffd" not in joined(pieces)
    expected = [i for i, character in enumerate(text) for _ in character.encode()]
    assert [p.offset for piece in pieces for p in piece.tokens] == expected
    for piece in pieces:  # a piece's text comes with the tokens that made it
        made = bytes(p.scored.id - 3 for p in piece.tokens)
        assert made.decode() == piece.text


def test_an_unfinished_character_waits_and_becomes_a_replacement_at_the_end() -> None:
    ids = TOKENISER.encode("aய")[:-1]
    pieces = write(ids, [])
    assert [piece.text for piece in pieces] == ["a", "", "", "\ufffd"]
    # A stop sequence cannot cut a character in two.
    assert joined(write(TOKENISER.encode("யb"), ["b"])) == "ய"


def test_tokens_without_text_do_not_wait() -> None:
    pieces = write([300, *TOKENISER.encode("a"), 2, 2, 0xE0 + 3, 300], [])
    sent = [(piece.text, [p.scored.id for p in piece.tokens]) for piece in pieces]
    assert sent[:4] == [("", [300]), ("a", [100]), ("", [2]), ("", [2])]
    assert sent[4:] == [("", []), ("", []), ("\ufffd", [0xE0 + 3, 300])]


def test_the_beginning_of_a_stop_waits() -> None:
    pieces = write(TOKENISER.encode("ab##c###d"), ["###"])
    assert [piece.text for piece in pieces] == ["a", "b", "", "", "##c", "", "", "", ""]
    assert joined(write(TOKENISER.encode("ab##"), ["###"])) == "ab##"


def test_tokens_have_names_of_their_own() -> None:
    names = [token_text(i) for i in range(TOKENISER.vocab_size)]
    assert len(set(names)) == TOKENISER.vocab_size
    assert (names[ord("a") + 3], names[0xE0 + 3], names[1]) == ("a", "bytes:\\xe0", "</s>")
    assert names[259] == "<extra_id_0>" and names[383] == "<extra_id_124>"
    assert token_bytes(3) == [0] and token_bytes(258) == [255]
    assert token_bytes(1) is token_bytes(259) is None


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.01, {2}), (0.5, {2}), (0.51, {2, 0}), (0.85, {2, 0, 3}), (1.0, {0, 1, 2, 3})],
)
def test_the_nucleus_is_the_smallest_set(top_p: float, kept: set[int]) -> None:
    probabilities_V = torch.tensor([0.3, 0.05, 0.5, 0.15], dtype=torch.float64)
    found_V = nucleus(probabilities_V.log(), 1.0, top_p)
    assert {i for i in range(4) if found_V[i] > float("-inf")} == kept
    # Colder, the likeliest alone is enough.
    assert int(torch.isfinite(nucleus(probabilities_V.log(), 0.1, 0.9)).sum()) == 1


def test_sampling_follows_the_probabilities_inside_the_nucleus() -> None:
    logits_V = torch.tensor([0.3, 0.05, 0.5, 0.15]).log()
    wanted = Wanted(prompt_ids=(3,), max_new_tokens=1, temperature=1.0, top_p=0.75, seed=4)
    choose = chooser(wanted)
    counts = torch.bincount(torch.tensor([choose(logits_V) for _ in range(4000)]), minlength=4)
    # Renormalised: 0.375 and 0.625; the standard error of a share is 0.008.
    assert counts[[1, 3]].tolist() == [0, 0]
    assert abs(float(counts[2]) / 4000 - 0.625) < 0.03


def test_scores_are_log_softmax_and_hold_the_chosen_token() -> None:
    logits_LV = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]])
    first, second = score(logits_LV, [0, 2], 2)
    expected_LV = logits_LV.double() - logits_LV.double().exp().sum(1, keepdim=True).log()
    assert first.logprob == pytest.approx(float(expected_LV[0, 0]))
    assert [i for i, _ in first.top] == [2, 1, 0]  # two likeliest, and the chosen one
    assert second.top[0] == (2, second.logprob) and len(second.top) == 2
    assert score(logits_LV[:0], [], 2) == []
