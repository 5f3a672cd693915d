"""A run's folder: what is read, how it is labelled, and how errors name their place."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm.data.folder import ENOUGH_ROWS, read_folder, translation_rows
from seshu_swarm.data.text import Row
from seshu_swarm.errors import DataError

GOOD = {"instruction": "Name it", "input": "Japan", "output": "जापान", "language": "hi"}


def write(path: Path, *tables: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(t, ensure_ascii=False).encode() if not isinstance(t, bytes) else t
        for t in tables
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "pretrain/hi.jsonl", {"text": "एक कहानी", "id": "x"}, {"text": "दो"})
    write(tmp_path / "pretrain/en.jsonl", {"text": "A story"})
    command = {"instruction": "सेवा दिखाएँ", "input": "", "output": "dumpsys", "language": "hi"}
    write(tmp_path / "sft/a.jsonl", GOOD, command)
    write(tmp_path / "parallel/en-hi.jsonl", {"idx": 0, "src": "Come here.", "tgt": "यहाँ आओ।"})
    write(tmp_path / "parallel/en-ta.jsonl", {"idx": 0, "src": "Come.", "tgt": "வா."})
    return tmp_path


def test_documents_rows_and_translations(folder: Path) -> None:
    corpus = read_folder(folder, ["hi", "en"])
    assert [d.text for d in corpus.documents["hi"]] == ["एक कहानी", "दो"]
    assert len({d.id for d in corpus.documents["hi"]}) == 2
    assert Row("Name it", "Japan", "जापान", "hi") in corpus.rows["hi"]
    into = [row for row in corpus.rows["hi"] if row.input == "Come here."]
    back = [row for row in corpus.rows["en"] if row.output == "Come here."]
    assert [row.output for row in into] == ["यहाँ आओ।"] and "Hindi" in into[0].instruction
    assert [row.input for row in back] == ["यहाँ आओ।"]
    assert "ta" not in corpus.languages


def test_a_command_is_no_hindi(folder: Path) -> None:
    corpus = read_folder(folder, ["hi", "en"])
    assert "dumpsys" in [row.output for row in corpus.rows["en"]]
    assert "dumpsys" not in [row.output for row in corpus.rows["hi"]]


def test_pairs_fill_up_to_enough_rows_and_no_further(tmp_path: Path) -> None:
    write(tmp_path / "sft/a.jsonl", *[{**GOOD, "input": str(i)} for i in range(ENOUGH_ROWS - 8)])
    pairs = [{"src": f"Sentence {i}.", "tgt": f"वाक्य {i}।"} for i in range(50)]
    write(tmp_path / "parallel/en-hi.jsonl", *pairs)
    corpus = read_folder(tmp_path, ["hi", "en"])
    assert len(corpus.rows["hi"]) == ENOUGH_ROWS and len(corpus.rows["en"]) == 2


def test_translations_are_worded_in_several_ways_and_deterministic() -> None:
    pairs = [(f"Sentence {i}.", f"वाक्य {i}।") for i in range(100)]
    rows = translation_rows(pairs, "hi", 40)
    assert rows == translation_rows(list(reversed(pairs)), "hi", 40)
    native = [row for row in rows if row.language == "hi"]
    assert len(native) == 40 and len(rows) == 50
    assert len({row.instruction for row in native}) == 5  # four in English, one in Hindi
    assert {(row.input, row.output) for row in native} <= set(pairs)


def test_a_missing_language_is_named_with_those_there_are(folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no text in 'ml'; it has en, hi, ta") as caught:
        read_folder(folder, ["hi", "ml"])
    assert str(folder) in str(caught.value) and caught.value.exit_code == 20
    with pytest.raises(DataError, match="it has none"):
        read_folder(folder / "nowhere", ["hi"])


BAD = [
    (b"{not json", "not JSON"),
    (b"[1, 2]", "a list, not a table"),
    (b'{"instruction": "\xff"}', "not UTF-8"),
    (b"[" * 100_000, "not JSON"),
    ({k: v for k, v in GOOD.items() if k != "input"}, "no key 'input'"),
    ({**GOOD, "output": 7}, "'output' is a int"),
    ({**GOOD, "output": " "}, "'output' is empty"),
    ({**GOOD, "output": "\ud800"}, "surrogate"),
    ({**GOOD, "language": "Hindi"}, "not a language code"),
]


@pytest.mark.parametrize(("line", "what"), BAD)
def test_a_bad_row_is_named_by_file_and_line_or_skipped(
    tmp_path: Path, line: Any, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "sft/b.jsonl"
    if isinstance(line, dict):
        line = json.dumps(line).encode()
    write(file, GOOD, b"", line, {**GOOD, "output": "चीन"})
    with pytest.raises(DataError, match=f"line 3: .*{what}") as caught:
        read_folder(tmp_path, ["hi"])
    assert str(caught.value).startswith(f"{file} line 3: ")
    assert "--bad-rows skip" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        corpus = read_folder(tmp_path, ["hi"], bad_rows="skip")
    assert [row.output for row in corpus.rows["hi"]] == ["जापान", "चीन"]
    assert "1 rows skipped" in caplog.text and "line 3" in caplog.text


def test_bad_documents_and_pairs_are_named_too(folder: Path) -> None:
    write(folder / "pretrain/hi.jsonl", {"text": "ठीक"}, {"txt": "?"})
    with pytest.raises(DataError, match=r"pretrain/hi.jsonl line 2: no key 'text'"):
        read_folder(folder, ["hi"])
    write(folder / "pretrain/hi.jsonl", {"text": "ठीक"})
    write(folder / "parallel/en-hi.jsonl", {"src": "a", "tgt": None})
    with pytest.raises(DataError, match=r"en-hi.jsonl line 1: 'tgt' is a NoneType"):
        read_folder(folder, ["hi"])
