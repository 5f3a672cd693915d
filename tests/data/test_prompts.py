"""The template, and what is kept of a row that is too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.data.prompts import (
    TURN_END,
    encode_row,
    prompt_for_generation,
    prompt_ids,
    prompt_of,
)
from seshu_swarm.data.text import Row
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import UsageError

tokeniser = ByteTokeniser()
texts = st.text(max_size=80)


def test_the_template() -> None:
    row = Row("Name in Hindi", "Japan", "जापान", "hi")
    assert prompt_of(row) == "Q: Name in Hindi\nJapan\nA: "
    assert prompt_of(row) == prompt_for_generation("Name in Hindi", "Japan")
    assert prompt_of(Row("Why?", "", "x", "en")) == "Q: Why?\nA: "
    assert prompt_of(Row("", "", "running text", "en")) == ""


def test_a_row_that_fits_is_whole_and_ends() -> None:
    row = Row("Name in Hindi", "Japan", "जापान", "hi")
    ids, num_prompt_tokens = encode_row(tokeniser, row, 100)
    assert tokeniser.decode(ids[:num_prompt_tokens]) == prompt_of(row)
    assert tokeniser.decode(ids[num_prompt_tokens:-1]) == "जापान"
    assert ids[-1] == tokeniser.eos_id


def test_a_long_prompt_keeps_its_end() -> None:
    row = Row("a" * 100, "b" * 100, "answer", "en")
    ids, num_prompt_tokens = encode_row(tokeniser, row, 40)
    assert len(ids) == 40 and num_prompt_tokens == 33
    assert tokeniser.decode(ids[:num_prompt_tokens]) == "b" * 29 + "\nA: "
    assert tokeniser.decode(ids[num_prompt_tokens:]) == "answer" and ids[-1] == tokeniser.eos_id


def test_a_long_answer_loses_its_end_and_the_end_token() -> None:
    ids, num_prompt_tokens = encode_row(tokeniser, Row("q" * 50, "", "y" * 100, "en"), 40)
    assert num_prompt_tokens == 10 and tokeniser.decode(ids) == "qqqqqq\nA: " + "y" * 30
    assert tokeniser.eos_id not in ids


@given(texts, texts, texts, st.integers(8, 200))
def test_any_row_fits(instruction: str, input: str, output: str, max_tokens: int) -> None:
    row = Row(instruction, input, output, "en")
    ids, num_prompt_tokens = encode_row(tokeniser, row, max_tokens)
    answer = [*tokeniser.encode(row.output), tokeniser.eos_id]
    assert len(ids) == min(max_tokens, len(ids)) and num_prompt_tokens < len(ids)
    assert ids[num_prompt_tokens:] == answer[: len(ids) - num_prompt_tokens]
    kept = ids[:num_prompt_tokens]
    whole = prompt_ids(tokeniser, row)
    assert kept == whole[len(whole) - len(kept) :]


@given(texts, texts)
def test_only_what_ends_a_turn_is_more_than_its_text(instruction: str, input: str) -> None:
    row = Row(instruction, input, "a", "en")
    ids = prompt_ids(tokeniser, row)
    assert tokeniser.decode(ids) == prompt_of(row).replace(TURN_END, "")
    assert ids.count(tokeniser.eos_id) == prompt_of(row).count(TURN_END)


def test_too_little_room_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 8"):
        encode_row(tokeniser, Row("q", "", "a", "en"), 7)
