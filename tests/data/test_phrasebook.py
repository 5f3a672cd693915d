"""The built-in text: enough of it, quickly, the same each time, in the language's own letters."""

import time
from collections import Counter

import babel
import pytest

from seshu_swarm.data.names import names_of
from seshu_swarm.data.phrasebook import LANGUAGES, build
from seshu_swarm.data.scripts import language_of_answer, script_share
from seshu_swarm.data.text import Corpus
from seshu_swarm.errors import DataError


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build(LANGUAGES, 0)


def test_every_language_has_enough_and_soon() -> None:
    started = time.process_time()
    found = build(LANGUAGES, 1)
    seconds = time.process_time() - started
    assert len(LANGUAGES) >= 12 and {"hi", "ta", "te", "kn", "ml", "mr"} <= set(LANGUAGES)
    assert {"bn", "gu", "pa", "or", "ur", "en"} <= set(LANGUAGES)
    assert min(len(found.rows[language]) for language in LANGUAGES) >= 800
    assert min(len(found.documents[language]) for language in LANGUAGES) >= 300
    assert seconds < 10


def test_names_are_those_of_cldr() -> None:
    names = {(name.kind, name.code): name.native for name in names_of("hi")}
    assert names["territory", "JP"] == babel.Locale("hi").territories["JP"] == "जापान"
    assert names["language", "ta"] == "तमिल"
    assert names["currency", "JPY"] == "जापानी येन"


def test_the_same_seed_gives_the_same_text(corpus: Corpus) -> None:
    again, other = build(["hi"], 0), build(["hi"], 1)
    assert again.rows["hi"] == corpus.rows["hi"]
    assert again.documents["hi"] == corpus.documents["hi"]
    assert other.rows["hi"] != corpus.rows["hi"]
    assert other.documents["hi"] != corpus.documents["hi"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_text_is_in_the_languages_letters(corpus: Corpus, language: str) -> None:
    answers = [row.output for row in corpus.rows[language]]
    assert all(language_of_answer(answer, language) == language for answer in answers)
    shares = [script_share(document.text, language) for document in corpus.documents[language]]
    assert min(share for share in shares if share is not None) > 0.8
    assert not any("length-" in answer or "mass-" in answer for answer in answers)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_question_is_asked_twice(corpus: Corpus, language: str) -> None:
    asked = Counter((row.instruction, row.input) for row in corpus.rows[language])
    doubled = [question for question, times in asked.items() if times > 1]
    assert len(doubled) < 0.02 * len(asked)  # CLDR has names that are the same in English


def test_documents_give_no_translation_away(corpus: Corpus) -> None:
    english = {name.english for name in names_of("hi") if len(name.english) > 5}
    words = {word for d in corpus.documents["hi"] for word in d.text.replace(",", " ").split()}
    assert not words & english


def test_a_language_without_names_is_refused() -> None:
    with pytest.raises(DataError, match=r"CLDR has \d+ names in 'mni'"):
        build(["mni"], 0)
    with pytest.raises(DataError, match="no language 'xx'"):
        build(["xx"], 0)
