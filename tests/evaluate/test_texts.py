"""Held-out text by language, from folders and files; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from seshu_swarm.data.prompts import prompt_of
from seshu_swarm.data.text import Row
from seshu_swarm.errors import DataError
from seshu_swarm.evaluate.texts import drawn, read_texts
from tests.evaluate.nano import text, write_folder, write_lines

ROW = {"instruction": "नाम?", "input": "", "output": "राम", "language": "hi"}


def test_documents_of_a_folder_by_language(tmp_path: Path) -> None:
    texts = read_texts(write_folder(tmp_path, ("ta", "hi"), documents=3))
    assert list(texts) == ["hi", "ta"]
    assert [one.id for one in texts["ta"]] == ["ta-0", "ta-1", "ta-2"]
    assert list(read_texts(tmp_path, languages=("ta",))) == ["ta"]


def test_shards_of_a_catalogue_are_running_text(tmp_path: Path) -> None:
    for number, words in enumerate((["क", "ख"], ["ग"])):
        lines = [{"text": word} for word in words]
        write_lines(tmp_path / f"pretrain-hi-{number:03d}.jsonl", lines)
    texts = read_texts(tmp_path)
    assert [one.text for one in texts["hi"]] == ["क", "ख", "ग"]
    assert len({one.id for one in texts["hi"]}) == 3


def test_answers_come_after_their_prompts(tmp_path: Path) -> None:
    write_lines(tmp_path / "sft" / "a.jsonl", [ROW])
    of_folder = read_texts(tmp_path, answers=True)
    of_file = read_texts(tmp_path / "sft" / "a.jsonl", answers=True)
    assert of_folder == of_file
    (found,) = of_folder["hi"]
    assert (found.prompt, found.text) == (prompt_of(Row("नाम?", "", "राम", "hi")), "राम")
    assert found.num_bytes == 9


def test_a_file_with_either_name_of_the_language(tmp_path: Path) -> None:
    tables = [{"lang": "hi", "text": "क\u093c"}, {"language": "ta", "text": "தமிழ்", "id": "t"}]
    texts = read_texts(write_lines(tmp_path / "x.jsonl", tables))
    assert [(k, v[0].text) for k, v in texts.items()] == [("hi", "क\u093c"), ("ta", "தமிழ்")]
    assert texts["ta"][0].id == "t" and len(texts["hi"][0].id) == 16


def test_a_limit_draws_by_digest_and_cuts_between_characters() -> None:
    texts = [text("क" * 4, name="b"), text("ख" * 4, name="a"), text("ग" * 4, name="c")]
    assert [(one.id, one.text) for one in drawn(texts, 20)] == [("a", "ख" * 4), ("b", "क" * 2)]
    assert drawn(texts, None) == texts
    assert sum(one.num_bytes for one in drawn(texts, 14)) == 12


@pytest.mark.parametrize(
    ("name", "languages", "answers", "said"),
    [
        ("none", (), False, "no held-out text at"),
        ("folder", ("gu",), False, "no text in 'gu'; it has none"),
        ("folder", (), True, "no answers; it has none"),
        ("x.jsonl", ("hi", "gu"), False, "no text in 'gu'; it has hi"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, name: str, languages: tuple[str, ...], answers: bool, said: str
) -> None:
    write_folder(tmp_path / "folder", ("hi",), documents=1)
    write_lines(tmp_path / "x.jsonl", [{"lang": "hi", "text": "क"}])
    with pytest.raises(DataError, match=said) as refused:
        read_texts(tmp_path / name, languages=languages, answers=answers)
    assert refused.value.way_out
