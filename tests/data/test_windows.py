"""Units of scoring: every byte of the text once, in at most 512 bytes, with context."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.data.prompts import prompt_ids
from seshu_swarm.data.text import Document, Row
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.windows import (
    Window,
    num_bytes,
    pieces,
    windows_of_documents,
    windows_of_rows,
)
from seshu_swarm.errors import UsageError

tokeniser = ByteTokeniser()
texts = st.text(max_size=300)
HINDI = "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता। " * 20


def scored(windows: list[Window]) -> bytes:
    return b"".join(bytes(i - 3 for i in w.ids[w.num_context_tokens :]) for w in windows)


@given(texts, st.integers(4, 600))
def test_documents_are_scored_byte_by_byte(text: str, max_bytes: int) -> None:
    windows = windows_of_documents(tokeniser, [Document("d", "hi", text)], max_bytes)
    native = unicodedata.normalize("NFC", text).encode()
    assert scored(windows) == native and num_bytes(windows) == len(native)
    for window in windows:
        size = len(window.ids) - window.num_context_tokens
        assert 0 < size == window.num_bytes <= max_bytes
        assert 1 <= window.num_context_tokens <= 512 and window.document == "d"


@given(texts, texts)
def test_rows_are_scored_on_the_answer_only(prompt: str, answer: str) -> None:
    row = Row(prompt, "", answer, "hi")
    windows = windows_of_rows(tokeniser, [row], max_bytes=100)
    assert scored(windows) == row.output.encode()
    assert all(tokeniser.eos_id not in w.ids[w.num_context_tokens :] for w in windows)
    if windows and prompt:
        first = windows[0]
        context = tokeniser.decode(first.ids[: first.num_context_tokens])
        expected = prompt_ids(tokeniser, row)[-512:]
        assert context == tokeniser.decode(expected)


def test_the_context_is_the_text_before() -> None:
    windows = windows_of_documents(tokeniser, [Document("d", "hi", HINDI)])
    stream = [tokeniser.eos_id, *tokeniser.encode(HINDI)]
    position = 1
    for window in windows:
        end = position + window.num_bytes
        start = max(0, position - 512)
        assert list(window.ids) == stream[start:end]
        assert window.num_context_tokens == position - start
        position = end
    assert position == len(stream) and len(windows) > 3


def test_pieces_never_cut_a_character() -> None:
    assert pieces("कखग", 4) == ["क", "ख", "ग"]
    assert pieces("कखग", 6) == ["कख", "ग"]
    assert pieces("", 6) == []
    assert all(len(piece.encode()) > 508 for piece in pieces(HINDI, 512)[:-1])
    with pytest.raises(UsageError, match="pieces of 3 bytes"):
        pieces("क", 3)


def test_questions_on_one_paragraph_are_one_cluster() -> None:
    rows = [Row(q, HINDI, "उत्तर " + q, "hi") for q in "ab"] + [Row("c", "short", "x", "hi")]
    rows.append(Row("d", "short", "y", "hi"))
    clusters = [window.document for window in windows_of_rows(tokeniser, rows)]
    assert clusters[0] == clusters[1] and len(set(clusters)) == 3
