"""Pairs as translation rows in both languages, and as sentences in turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm.data.folder import ENGLISH_NAMES, read_documents, read_folder, translation_rows
from seshu_swarm.data.instructions.alternating import alternate
from seshu_swarm.data.instructions.config import DataInstructionsConfig
from seshu_swarm.data.instructions.run import run
from seshu_swarm.data.instructions.wordings import IN_THE_LANGUAGE, wordings_of
from seshu_swarm.data.scripts import script_share
from seshu_swarm.errors import DataError, UsageError

PAIRS = [(f"Sentence {i}.", f"वाक्य {i}।") for i in range(60)]


@pytest.mark.parametrize("language", sorted(IN_THE_LANGUAGE))
def test_wordings_are_written_in_the_language_s_letters(language: str) -> None:
    into, back = IN_THE_LANGUAGE[language]
    assert into != back
    assert script_share(into, language) == script_share(back, language) == 1.0


def test_seventeen_languages_and_more_are_asked_for_in_themselves() -> None:
    assert len(IN_THE_LANGUAGE) >= 17
    unsure = wordings_of("mai", "Maithili")
    assert "Translate to Maithili" in unsure.to_native
    assert len(unsure.to_native) == len(unsure.to_english) == 4


@pytest.mark.parametrize("language", ["hi", "ta", "mai"])
def test_half_of_the_questions_are_in_the_language(language: str) -> None:
    rows = translation_rows([(f"{i}", f"{i} {i}") for i in range(400)], language, 400)
    native = [row for row in rows if row.language == language]
    own = IN_THE_LANGUAGE.get(language, ("", ""))
    share = sum(row.instruction == own[0] for row in native) / len(native)
    assert share == pytest.approx(0.5 if language in IN_THE_LANGUAGE else 0, abs=0.1)
    back = [row for row in rows if row.language == "en"]
    assert len(back) == 100
    english = {*wordings_of(language, ENGLISH_NAMES[language]).to_english}
    assert {row.instruction for row in back} <= english


def test_sentences_take_turns() -> None:
    (one,) = alternate(PAIRS[:4], "hi", form="turns", document_bytes=4096)
    assert one.text.split("\n") == ["Sentence 0.", "वाक्य 1।", "Sentence 2.", "वाक्य 3।"]
    (one,) = alternate(PAIRS[:2], "hi", form="both", document_bytes=4096)
    assert one.text.split("\n") == ["Sentence 0.", "वाक्य 0।", "वाक्य 1।", "Sentence 1."]


@pytest.mark.parametrize("form", ["turns", "both"])
def test_documents_are_filled_and_lose_nothing(form: str) -> None:
    documents = list(alternate(PAIRS, "hi", form=form, document_bytes=200))
    lines = [line for document in documents for line in document.text.split("\n")]
    assert len(lines) == (60 if form == "turns" else 120)
    assert all(len(document.text.encode()) <= 200 for document in documents)
    assert {line.split()[1].strip(".।") for line in lines} == {str(i) for i in range(60)}
    starts = [document.text.startswith("Sentence") for document in documents]
    assert 0.2 < sum(starts) / len(starts) < 0.8, "both languages begin documents"
    (large,) = alternate([("x" * 300, "क" * 300)], "hi", form=form, document_bytes=200)
    assert len(large.text.encode()) > 200


def test_a_line_of_a_document_is_a_sentence() -> None:
    (one,) = alternate([("two\nlines", "दो\tपंक्ति")], "hi", form="both", document_bytes=99)
    assert one.text == "two lines\nदो पंक्ति"
    with pytest.raises(UsageError, match="sentences in 'mixed'"):
        list(alternate(PAIRS, "hi", form="mixed", document_bytes=99))


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    path = tmp_path / "en-hi.jsonl"
    tables = [{"english": english, "hindi": native} for english, native in PAIRS]
    path.write_text("".join(json.dumps(table) + "\n" for table in tables))
    return path


def test_the_command_writes_what_a_run_reads(pairs_file: Path, tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "source": str(pairs_file),
        "out": str(tmp_path / "run"),
        "language": "hi",
    }
    columns = "src=english,tgt=hindi"
    assert run(DataInstructionsConfig(**common, columns=columns)) == 0
    assert run(DataInstructionsConfig(**common, columns=columns, alternate="turns")) == 0
    corpus = read_folder(tmp_path / "run", ["hi", "en"])
    assert {language: len(rows) for language, rows in corpus.rows.items()} == {"hi": 60, "en": 15}
    (document,) = read_documents(tmp_path / "run", ["hi"])["hi"]
    assert document.text.startswith("Sentence 0.\nवाक्य 1।\nSentence 2.")


def test_the_command_keeps_talks(tmp_path: Path) -> None:
    talk = [{"role": r, "content": r} for r in ("user", "assistant")] * 2
    (tmp_path / "talks.jsonl").write_text(json.dumps({"messages": talk}))
    settings = DataInstructionsConfig(
        source=str(tmp_path / "talks.jsonl"), out=str(tmp_path), language="en"
    )
    assert run(settings) == 0
    rows = read_folder(tmp_path, ["en"]).rows["en"]
    assert [row.input for row in rows] == ["user", "user\nA: assistant\x1eQ: user"]


def test_wrong_settings_are_named(pairs_file: Path, tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "source": str(pairs_file),
        "out": str(tmp_path / "run"),
        "language": "hi",
    }
    with pytest.raises(UsageError, match="--alternate 'mixed'"):
        DataInstructionsConfig(**common, alternate="mixed")
    with pytest.raises(UsageError, match="no folder to write in"):
        DataInstructionsConfig(source="x")
    with pytest.raises(DataError, match="no key 'output'"):
        run(DataInstructionsConfig(**common))
    (tmp_path / "rows.jsonl").write_text('{"output": "a"}\n')
    common["source"] = str(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="holds no pairs in 'hi'"):
        run(DataInstructionsConfig(**common, alternate="both"))
