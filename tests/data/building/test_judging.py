"""Cleaning, signals, filters, word lists and mixture, each against numbers made by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from seshu_swarm.data import scripts
from seshu_swarm.data.building.classes import counts_of
from seshu_swarm.data.building.cleaning import cleaned
from seshu_swarm.data.building.filters import reason_of
from seshu_swarm.data.building.mixture import factors_of
from seshu_swarm.data.building.reading import MAX_PART_CHARACTERS, cut
from seshu_swarm.data.building.recipe import Filters, Mixture
from seshu_swarm.data.building.run import build
from seshu_swarm.data.building.signals import plain_words, signals_of, words_of
from seshu_swarm.data.building.wordlists import WordList
from tests.data.building.helpers import (
    books_of,
    document,
    phrases,
    sentence,
    source,
    write_jsonl,
    write_recipe,
)


def test_words_of_devanagari_are_whole() -> None:
    assert words_of("मैंने किताब पढ़ी।", "hi") == ["मैंने", "किताब", "पढ़ी"]
    assert words_of("தமிழ் மொழி", "ta") == ["தமிழ்", "மொழி"]
    assert words_of("ที่นี่", "th") == ["ที่", "นี่"]  # a letter with its marks each
    assert plain_words("क्\u200dष ABC", "hi") == ["क्ष", "abc"]


@pytest.mark.parametrize("language", ["hi", "ta", "bn", "ur", "en", "mni", "kn", "xx"])
def test_counts_are_those_of_the_scripts(language: str) -> None:
    other = "hi" if language in ("mni", "xx") else language
    texts = [*phrases(other, 20), "abc १२३ 12 $#@", "", "!?", "اردو मिश्र mixed 𝒳 한국"]
    for text in texts:
        counts = counts_of(text, language)
        assert counts.script_share == scripts.script_share(text, language)
        assert counts.digits == sum(character.isdecimal() for character in text)
    assert counts_of("a#b$c…", "en").symbols == 3


@pytest.mark.parametrize(
    ("raw", "text", "fault"),
    [
        ("\ufeffक \r\nख\rग\u2028घ", "क\nख\nग\nघ", None),
        ("a\x07b\x1bc\td", "abc\td", None),
        ("a\n\n\n\n\nb \n", "a\n\nb", None),
        ("\u0958", "\u0915\u093c", None),  # NFC takes it apart
        ("a\0b", "", "nul_bytes"),
        ("a\ud800b", "", "lone_surrogate"),
        ("a\ufffdb", "", "replacement_characters"),
        (" \n ", "", None),
    ],
)
def test_cleaning(raw: str, text: str, fault: str | None) -> None:
    assert cleaned(raw) == (text, fault)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("छोटा", "too_short"),
        ("एकहीबहुतलंबाशब्दएकहीबहुतलंबाशब्द", "too_short"),
        ("This is all in English letters, so it is no Hindi.", "wrong_script"),
        ("१२ ३४५ ६७८ ९०१ २३४ ५६७ ८९० १२३ क ख", "digits"),
        ("क ख ग $$ ## @@ {} [] ** || ~~ ++ == << >> घ च", "symbols"),
        ("क" * 40 + " " + "ख" * 40, "long_words"),
        ("यह एक वाक्य है। " * 10, "repeated_sentences"),
        ("यह एक बहुत अच्छा दिन है और " * 20, "repeated_runs"),
        ("वह " * 15 + " ".join("कखगघचछ"), "one_word"),
        ("!!!! ???? .... ,,,, ---- !!!! ???? ....", "too_short"),
    ],
)
def test_each_filter_has_a_text_that_breaks_it(text: str, reason: str) -> None:
    words = plain_words(text, "hi")
    assert reason_of(signals_of(text, words, "hi"), Filters()) == reason


@pytest.mark.parametrize("language", ["hi", "ta", "bn", "te", "ml", "ur", "or", "en"])
def test_real_text_passes_in_every_script(language: str) -> None:
    """Running text and short sentences; price lists are digits for the most part."""
    for text in phrases(language, 30)[::3]:
        signals = signals_of(text, plain_words(text, language), language)
        assert reason_of(signals, Filters()) is None, text


def test_signals_by_hand() -> None:
    text = "क ख ग।\nक ख ग।\nघ च।\nछ ज।"
    signals = signals_of(text, plain_words(text, "hi"), "hi")
    assert signals.num_words == 10 and signals.size_bytes == len(text.encode())
    assert signals.repeated_sentence_share == pytest.approx(6 / 20)
    words = [str(k % 25) for k in range(50)]  # 46 runs, 25 of them different
    assert signals_of("x", words, "hi").repeated_run_share == pytest.approx(21 / 46)
    assert signals_of("x", ["a"] * 10 + list("bcdefghijk"), "hi").top_word_share == 0.5


def test_word_lists_know_words_and_phrases() -> None:
    words = WordList.of(["Bad", "एक भाषा मॉडल", "as an AI"])
    assert words.hits(plain_words("A BAD bad badge", "en")) == 2
    assert words.hits(plain_words("मैं एक भाषा मॉडल हूँ। एक भाषा, मॉडल!", "hi")) == 2
    assert words.hits(plain_words("as an aim", "en")) == 0
    assert WordList.of([]).hits(["x"]) == 0


def test_refusals_go_and_bad_words_are_counted(tmp_path: Path) -> None:
    rng = random.Random(0)
    (tmp_path / "refusals.txt").write_text("# phrases\nमैं एक भाषा मॉडल हूँ\n", encoding="utf-8")
    (tmp_path / "bad.txt").write_text("गंदा\n", encoding="utf-8")
    texts = [document(rng), f"{sentence(rng)} मैं एक भाषा मॉडल हूँ। {sentence(rng)}"]
    texts += [f"{document(rng)} गंदा", f"गंदा गंदा {sentence(rng, 3)} गंदा"]
    write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    words = (
        '[words]\nrefusals = ["refusals.txt"]\nbad_words = ["bad.txt"]\nmax_bad_word_share = 0.2\n'
    )
    build(write_recipe(tmp_path, words + source("a.jsonl")), tmp_path / "out", num_workers=1)
    books = books_of(tmp_path / "out")
    assert books["steps"][0]["reasons"] == {"refusal": 1, "bad_words": 1}
    assert books["read"]["flags"]["bad_words"] == 1 and books["steps"][0]["out"] == 2


def test_temperature_gives_shares_of_the_root() -> None:
    sizes = {"hi": 1600.0, "ta": 400.0, "kn": 100.0, "or": 0.0}
    factors = factors_of(sizes, Mixture(temperature=2.0))
    assert factors == pytest.approx({"hi": 1.0, "ta": 2.0, "kn": 4.0})
    assert factors_of(sizes, Mixture(temperature=2.0, max_epochs=3.0))["kn"] == 3.0
    assert set(factors_of(sizes, Mixture()).values()) == {1.0}
    assert factors_of({}, Mixture()) == {}


@pytest.mark.parametrize("total", [100, 1000, 2600, 6000])
def test_a_size_is_met_and_shares_are_kept_below_the_most_epochs(total: int) -> None:
    sizes = {"hi": 1600.0, "ta": 400.0, "kn": 100.0}
    mixture = Mixture(temperature=2.0, max_epochs=4.0, total_bytes=total)
    factors = factors_of(sizes, mixture)
    assert sum(sizes[x] * factors[x] for x in sizes) == pytest.approx(total)
    assert max(factors.values()) <= 4.0
    assert factors["ta"] == pytest.approx(min(4.0, 2 * factors["hi"]))


def test_cutting_loses_nothing_and_prefers_ends_of_sentences() -> None:
    text = "\n".join(["ab" * 40_000] * 12)
    parts = cut(text)
    assert "\n".join(parts) == text and max(map(len, parts)) <= MAX_PART_CHARACTERS
    unbroken = "x" * (2 * MAX_PART_CHARACTERS + 5)
    assert list(map(len, cut(unbroken))) == [MAX_PART_CHARACTERS, MAX_PART_CHARACTERS, 5]


def test_epochs_and_temperature_reach_the_shards(tmp_path: Path) -> None:
    rng = random.Random(1)
    write_jsonl(tmp_path / "a.jsonl", [{"text": document(rng)} for _ in range(400)])
    recipe = write_recipe(tmp_path, source("a.jsonl", more='language = "hi"\nepochs = 1.5'))
    build(recipe, tmp_path / "out", num_workers=1)
    # 400 draws of one half: 200 within five standard deviations.
    assert 550 <= books_of(tmp_path / "out")["steps"][2]["out"] <= 650
