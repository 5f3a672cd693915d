"""The byte tokeniser against UTF-8 itself, on every script and on any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.data.tokeniser import ByteTokeniser, StreamDecoder
from seshu_swarm.errors import DataError

SAMPLES = {
    "hi": "सभी मनुष्यों को गौरव",
    "ta": "மனிதப் பிறவியினர்",
    "te": "ప్రతిపత్తిస్వత్వముల",
    "kn": "ಎಲ್ಲಾ ಮಾನವರೂ",
    "ml": "മനുഷ്യരെല്ലാവരും തായ്\u200cലാൻഡ്",
    "bn": "সমস্ত মানুষ",
    "gu": "સર્વ માનવો",
    "pa": "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ",
    "or": "ସମସ୍ତ ମନୁଷ୍ୟ",
    "ur": "تمام انسان آزاد",
    "sat": "ᱥᱟᱱᱛᱟᱲᱤ",
    "en": "All human beings 👩‍👩‍👧 🇮🇳",
}
texts = st.text()


@pytest.mark.parametrize("language", SAMPLES)
def test_ids_are_the_bytes_plus_three(language: str) -> None:
    text = SAMPLES[language]
    ids = ByteTokeniser().encode(text)
    assert bytes(i - 3 for i in ids) == text.encode()
    assert ByteTokeniser().decode(ids) == text


def test_the_numbering_is_that_of_byt5() -> None:
    # "Life" in arXiv:2105.13626's released vocabulary is 79 108 105 104.
    assert ByteTokeniser().encode("Life") == [79, 108, 105, 104]
    tokeniser = ByteTokeniser()
    assert (tokeniser.pad_id, tokeniser.eos_id, tokeniser.unk_id) == (0, 1, 2)
    assert tokeniser.vocab_size == 384


@given(texts)
def test_round_trip_of_any_text(text: str) -> None:
    assert ByteTokeniser().decode(ByteTokeniser().encode(text)) == text


@given(st.lists(st.integers(0, 383)))
def test_special_ids_are_skipped_and_broken_bytes_replaced(ids: list[int]) -> None:
    data = bytes(i - 3 for i in ids if 3 <= i < 259)
    assert ByteTokeniser().decode(ids) == data.decode("utf-8", errors="replace")


@given(st.lists(st.integers(0, 383)))
def test_a_stream_gives_the_same_text_as_the_whole(ids: list[int]) -> None:
    decoder = StreamDecoder()
    streamed = "".join(decoder.push([i]) for i in ids) + decoder.finish()
    assert streamed == ByteTokeniser().decode(ids)


@given(texts)
def test_a_stream_never_shows_half_a_character(text: str) -> None:
    decoder = StreamDecoder()
    shown = ""
    for i in ByteTokeniser().encode(text):
        shown += decoder.push([i])
        assert text.startswith(shown)
    assert shown == text and decoder.finish() == ""


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(DataError, match="UTF-8"):
        ByteTokeniser().encode("\ud800")
