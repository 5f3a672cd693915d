"""Files as tasks, and answers against what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.evaluate.tasks.answers import exact_match, f1, words
from seshu_swarm.evaluate.tasks.items import Item, read_task, task_files
from tests.evaluate.nano import write_lines

CHOICE: dict[str, Any] = {
    "question": "வானம் எப்படி?",
    "choices": ["நீலம்", "பச்சை"],
    "answer": 1,
    "language": "ta",
}


def test_a_choice_is_asked_as_in_training(tmp_path: Path) -> None:
    task = read_task(write_lines(tmp_path / "sky.jsonl", [CHOICE, CHOICE]))
    assert (task.name, task.kind, len(task.items)) == ("sky", "choice", 2)
    assert task.items[0] == Item("Q: வானம் எப்படி?\nA:", (" நீலம்", " பச்சை"), 1)


@pytest.mark.parametrize(("relation", "word"), [("cause", "ஏனெனில்"), ("effect", "எனவே")])
def test_a_premise_gets_its_connector(tmp_path: Path, relation: str, word: str) -> None:
    table = CHOICE | {"question": "மழை பெய்தது.", "relation": relation}
    (item,) = read_task(write_lines(tmp_path / "x.jsonl", [table])).items
    assert item.prompt == f"மழை பெய்தது {word}"


def test_a_question_on_a_context_and_one_without(tmp_path: Path) -> None:
    first = {"question": "Who?", "context": "Ram came.", "answer": ["Ram", "Rama"]}
    tables: list[dict[str, Any]] = [first, {"question": "6×7?", "answer": "42"}]
    task = read_task(write_lines(tmp_path / "x.jsonl", tables))
    assert task.kind == "generation"
    assert task.items[0] == Item("Q: Who?\nRam came.\nA: ", ("Ram", "Rama"))
    assert task.items[1].prompt == "Q: 6×7?\nA: "
    assert len(read_task(tmp_path / "x.jsonl", limit=1).items) == 1


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (CHOICE | {"answer": 2}, "item 1: 'answer' '2'; an index from 0 to 1"),
        (CHOICE | {"answer": True}, "an index from 0 to 1"),
        (CHOICE | {"choices": ["one"]}, "no list of texts"),
        (CHOICE | {"relation": "because"}, "cause or effect"),
        (CHOICE | {"relation": "cause", "language": "sw"}, "in language 'sw'"),
        ({"question": "Who?", "answer": 3}, "'answer' is no text"),
        ({"text": "running text"}, "no key 'question'"),
    ],
)
def test_what_is_no_item_is_named(tmp_path: Path, table: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_task(write_lines(tmp_path / "x.jsonl", [table]))


def test_files_and_folders(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_lines(tmp_path / f"{name}.jsonl", [CHOICE])
    assert [file.stem for file in task_files([str(tmp_path)])] == ["a", "b"]
    for place in ("hellaswag", str(tmp_path / "c.jsonl"), __file__):
        with pytest.raises(UsageError, match="no task at"):
            task_files([str(tmp_path / "a.jsonl"), place])
    with pytest.raises(DataError, match="no items"):
        read_task(write_lines(tmp_path / "empty.jsonl", []))


def test_words_of_any_script() -> None:
    assert words("“नमस्ते, दुनिया।” Hello!") == ["नमस्ते", "दुनिया", "hello"]


@pytest.mark.parametrize(
    ("generated", "answers", "matches"),
    [
        ("  राम।\n", ["राम"], 1),
        ("राम आया", ["राम"], 0),
        ("5 × 4 = 20, so 1,234.0", ["1234"], 1),
        ("1234 then 5", ["1234"], 0),
        ("उत्तर १२", ["12"], 1),
        ("none", ["7"], 0),
        ("second", ["first", "second"], 1),
    ],
)
def test_exact_matches(generated: str, answers: list[str], matches: int) -> None:
    assert exact_match(generated, answers) == matches


def test_f1_by_hand() -> None:
    # Two of three words of one, two of four of the other.
    assert f1("a b c", ["x", "b a d e"]) == pytest.approx(2 * 2 / (3 + 4))
    assert f1("", ["x"]) == 0
