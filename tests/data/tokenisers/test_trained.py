"""Trained tokenisers against UTF-8 itself and against stock transformers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seshu_swarm.data import phrasebook
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.tokenisers.choosing import tokeniser_of
from seshu_swarm.data.tokenisers.fertility import fertility
from seshu_swarm.data.tokenisers.pieces import byte_of_character, pre_tokeniser
from seshu_swarm.data.tokenisers.scoring import bits_per_byte
from seshu_swarm.data.tokenisers.trained import TrainedTokeniser
from seshu_swarm.data.tokenisers.training import train
from seshu_swarm.data.windows import windows_of_documents
from seshu_swarm.errors import DataError, UsageError

LANGUAGES = ("hi", "ta", "en")
STRANGE = (
    "",
    " ",
    "</s> <pad><unk> in a text is text",
    "\x00\x07\r\n\t\u2028  \n\n x ",
    "▁ Ġ Ċ à¤¸ <0x41>",
    "ᱥᱟᱱᱛᱟᱲᱤ 👩‍👩‍👧 🇮🇳 \ufeff",
    "क़ क\u093c न\u200dन න්\u200dය മലയാളം\u200c",
    "१२३४५६ 1234567 ௧௨௩।॥",
)


def texts(language: str) -> list[str]:
    return [d.text for d in phrasebook.build([language], 0).documents[language]][:150]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def trained(request: pytest.FixtureRequest) -> TrainedTokeniser:
    every = [text for language in LANGUAGES for text in texts(language)]
    return train(request.param, iter(every), 700 if request.param == "bpe" else 400)


@pytest.mark.parametrize("text", STRANGE)
def test_every_text_comes_back(trained: TrainedTokeniser, text: str) -> None:
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert trained.bytes_of(ids) == text.encode()
    assert not {0, 1, 2} & set(ids), "special ids come only from us"
    assert trained.decode([*ids, trained.eos_id, trained.pad_id, 10**6]) == text


@settings(max_examples=60)
@given(text=st.text())
def test_any_text_comes_back(trained: TrainedTokeniser, text: str) -> None:
    assert trained.decode(trained.encode(text)) == text


def test_stock_transformers_cuts_as_we_do(trained: TrainedTokeniser, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    trained.save(tmp_path)
    for stock in (
        PreTrainedTokenizerFast.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    ):
        assert (stock.pad_token_id, stock.eos_token_id, stock.unk_token_id) == (0, 1, 2)
        assert len(stock) == trained.vocab_size
        for text in (*STRANGE, texts("ta")[0]):
            ids = stock(text)["input_ids"]
            assert ids == trained.encode(text)
            assert stock.decode(ids) == text
    again = tokeniser_of(str(tmp_path))
    assert again.encode(texts("hi")[0]) == trained.encode(texts("hi")[0])


def test_bpe_of_the_same_texts_is_the_same() -> None:
    first, second = (train("bpe", iter(texts("hi")), 400) for _ in range(2))
    assert first.files() == second.files()


def test_words_keep_their_vowel_signs() -> None:
    cuts = pre_tokeniser().pre_tokenize_str("सभी मनुष्यों को 1234 மனிதப், x")
    table = byte_of_character()
    words = [bytes(table[c] for c in word).decode() for word, _ in cuts]
    assert words == ["सभी", " मनुष्यों", " को", " 123", "4", " மனிதப்", ",", " x"]


def test_the_table_of_bytes_is_the_library_s() -> None:
    from tokenizers import pre_tokenizers

    table = byte_of_character()
    assert set(table) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(table.values()) == list(range(256))
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert [table[c] for c in cut.pre_tokenize_str("\x00 é\xad")[0][0]] == list(
        "\x00 é\xad".encode()
    )


def test_windows_count_native_bytes_whatever_the_tokeniser(trained: TrainedTokeniser) -> None:
    documents = phrasebook.build(["hi"], 0).documents["hi"][:5]
    total = sum(len(d.text.encode()) for d in documents)
    for tokeniser in (ByteTokeniser(), trained):
        windows = windows_of_documents(tokeniser, documents)
        assert sum(w.num_bytes for w in windows) == total
        assert all(w.ids[0] == tokeniser.eos_id for w in windows if w.num_context_tokens == 1)


def test_bits_are_per_native_byte() -> None:
    # Three tokens of probability ½, ¼ and ⅛ are six bits; the text has six bytes.
    nats = [math.log(1 / 2), math.log(1 / 4), math.log(1 / 8)]
    assert bits_per_byte(nats, "भा") == pytest.approx(1.0)
    assert bits_per_byte(nats, "abc") == pytest.approx(2.0)
    # NFC takes U+0958 (3 bytes) apart into two letters (6 bytes).
    assert bits_per_byte(nats, "\u0958") == pytest.approx(1.0)
    for wrong in ([0.1], [math.nan], [-math.inf]):
        with pytest.raises(DataError, match="log-likelihood"):
            bits_per_byte(wrong, "a")
    with pytest.raises(DataError, match="empty"):
        bits_per_byte(nats, "")


def test_fertility_is_counted_by_language(trained: TrainedTokeniser) -> None:
    pairs = [(language, text) for language in LANGUAGES for text in texts(language)[:5]]
    of_bytes, of_pieces = fertility(ByteTokeniser(), pairs), fertility(trained, pairs)
    for language in LANGUAGES:
        mine = [text for name, text in pairs if name == language]
        num_bytes = sum(len(text.encode()) for text in mine)
        assert of_bytes[language].bytes_per_token == 1.0
        assert of_pieces[language].bytes == num_bytes
        num_tokens = sum(len(trained.encode(text)) for text in mine)
        assert of_pieces[language].bytes_per_token == num_bytes / num_tokens > 1.1
        words = sum(len(text.split()) for text in mine)
        assert of_pieces[language].tokens_per_word == num_tokens / words
        assert of_pieces[language].changed == 0


class Lossy(ByteTokeniser):
    def decode(self, ids: Any) -> str:
        return super().decode(ids).lower()


def test_a_tokeniser_that_loses_something_is_noticed() -> None:
    assert fertility(Lossy(), [("en", "Abc"), ("en", "abc")])["en"].changed == 1


def test_what_is_no_tokeniser_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sentencepiece"):
        train("sentencepiece", iter(["a"]), 400)
    with pytest.raises(UsageError, match="vocabulary of 258"):
        train("bpe", iter(["a"]), 258)
    with pytest.raises(DataError, match="no text"):
        train("bpe", iter([]), 400)
    with pytest.raises(DataError, match="no tokeniser 'nowhere'"):
        tokeniser_of("nowhere")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is no tokeniser"):
        tokeniser_of(str(tmp_path))


def test_a_tokeniser_that_cannot_write_every_text_is_refused(tmp_path: Path) -> None:
    files = train("bpe", iter(["a b"]), 300).files()
    table = json.loads(files["tokenizer.json"])
    lacking = json.loads(json.dumps(table))
    del lacking["model"]["vocab"]["Ā"]  # byte 0; every later id moves
    ids = sorted(lacking["model"]["vocab"], key=lacking["model"]["vocab"].__getitem__)
    lacking["model"]["vocab"] = {token: i for i, token in enumerate(ids)}
    with pytest.raises(DataError, match="byte 0x0"):
        _load(tmp_path, lacking)
    normalising = {**table, "normalizer": {"type": "Lowercase"}}
    with pytest.raises(DataError, match="changes texts"):
        _load(tmp_path, normalising)


def _load(folder: Path, table: dict[str, Any]) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(table))
    TrainedTokeniser.load(folder)


def test_text_without_utf8_is_refused(trained: TrainedTokeniser) -> None:
    with pytest.raises(DataError, match="cannot be encoded"):
        trained.encode("a\ud800")
