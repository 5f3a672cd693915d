"""A trainer's own running text: what is read, in which language, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seshu_swarm.data.own_text import UNKNOWN, files_of, read_text
from seshu_swarm.data.text import Document
from seshu_swarm.errors import DataError

HINDI, TAMIL = "पानी बहता है", "தண்ணீர் ஓடும்"


def texts(found: dict[str, list[Document]]) -> dict[str, list[str]]:
    return {language: [document.text for document in of] for language, of in found.items()}


def lines(*tables: object) -> str:
    return "".join(json.dumps(table, ensure_ascii=False) + "\n" for table in tables)


def test_empty_lines_part_the_documents_of_a_text_file(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(f"\ufeff{HINDI}\r\nदूसरी\r\n \r\n\r\n{TAMIL}\n".encode())
    assert texts(read_text(str(file), ["hi"])) == {"hi": [f"{HINDI}\nदूसरी", f"{TAMIL}\n"]}
    assert list(read_text(str(file), ["hi", "ta"])) == [UNKNOWN]


def test_a_row_says_its_language_else_the_file_s_name_does(tmp_path: Path) -> None:
    (tmp_path / "hi.jsonl").write_text(lines({"text": HINDI}, {"text": TAMIL, "language": "ta"}))
    (tmp_path / "ta.txt").write_text(TAMIL)
    (tmp_path / "rows.csv").write_text("language,text\nbn,জল\nhi,नदी\n")
    (tmp_path / "README.md").write_text("not read")
    assert texts(read_text(str(tmp_path), ["hi", "ta"])) == {
        "hi": [HINDI, "नदी"],
        "ta": [TAMIL, TAMIL],
    }


def test_of_one_language_is_all_that_says_no_other(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("জল")
    (tmp_path / "rows.jsonl").write_text(lines({"text": "নদী"}, {"text": HINDI, "language": "hi"}))
    assert texts(read_text(str(tmp_path), ["bn"])) == {"bn": ["জল", "নদী"]}


def test_of_a_run_s_folder_only_running_text_is_read(tmp_path: Path) -> None:
    for name, text in (("pretrain/hi", HINDI), ("sft/rows", "an answer"), ("parallel/en-hi", "x")):
        file = tmp_path / f"{name}.jsonl"
        file.parent.mkdir()
        file.write_text(lines({"text": text}))
    assert texts(read_text(str(tmp_path), ["hi", "ta"])) == {"hi": [HINDI]}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        files_of(str(tmp_path / "none"))
    with pytest.raises(DataError, match="is no running text"):
        files_of(str(tmp_path))
    file = tmp_path / "hi.jsonl"
    file.write_text(lines({"text": HINDI}, {"words": "x"}))
    with pytest.raises(DataError, match=r"hi\.jsonl line 2: no key 'text'"):
        read_text(str(file), ["hi"])
    assert texts(read_text(str(file), ["hi"], bad_rows="skip")) == {"hi": [HINDI]}
    file.write_text(lines({"text": HINDI, "language": 7}))
    with pytest.raises(DataError, match=r"line 1: 'language' is a int"):
        read_text(str(file), ["hi"])
    file.write_text(lines({"text": TAMIL, "language": "ta"}))
    with pytest.raises(DataError, match="no text in hi"):
        read_text(str(file), ["hi"])
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"one\n\xff\n")
    with pytest.raises(DataError, match=r"broken\.txt line 2: not UTF-8"):
        read_text(str(broken), ["hi"])
