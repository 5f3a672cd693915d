"""Talks as rows, held against the tokens that a client sends in the same conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seshu_swarm.client.remote.turns import Turn, conversation_ids
from seshu_swarm.data.batches import IGNORED, batch_rows
from seshu_swarm.data.instructions.chat import talk_rows
from seshu_swarm.data.own_rows import check_source, read_rows
from seshu_swarm.data.prompts import encode_row
from seshu_swarm.data.text import Row
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.windows import windows_of_rows
from seshu_swarm.errors import DataError
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating.rows import check_rows, own_rows

TALK = [
    {"role": "system", "content": "उत्तर हिन्दी में दें"},
    {"role": "user", "content": "भारत की राजधानी?"},
    {"role": "assistant", "content": "नई दिल्ली"},
    {"role": "user", "content": "और जापान की?"},
    {"role": "assistant", "content": "टोक्यो"},
    {"role": "user", "content": "धन्यवाद"},
    {"role": "assistant", "content": "स्वागत है"},
]
TURNS = [Turn(TALK[i]["content"], TALK[i + 1]["content"]) for i in (1, 3, 5)]


@pytest.mark.parametrize("with_system", [True, False])
def test_a_talk_s_tokens_are_those_of_a_client(with_system: bool) -> None:
    tokeniser = ByteTokeniser()
    rows = talk_rows(TALK if with_system else TALK[1:], "hi")
    assert [row.output for row in rows] == [turn.answer for turn in TURNS]
    system = TALK[0]["content"] if with_system else ""
    for number, row in enumerate(rows, start=1):
        ids, num_prompt_tokens = encode_row(tokeniser, row, 10_000)
        assert ids == conversation_ids(tokeniser, TURNS[:number], system)
        answer = [*tokeniser.encode(row.output), tokeniser.eos_id]
        assert ids[num_prompt_tokens:] == answer


def test_loss_is_on_the_last_answer_alone() -> None:
    tokeniser = ByteTokeniser()
    row = talk_rows(TALK, "hi")[2]
    encoded = encode_row(tokeniser, row, 10_000)
    ((ids_BL, labels_BL),) = batch_rows([encoded], 10_000, np.random.default_rng(0))
    counted = labels_BL[0] != IGNORED
    assert tokeniser.decode(ids_BL[0][counted].tolist()) == "स्वागत है"
    assert counted.sum() == len("स्वागत है".encode()) + 1
    (window,) = windows_of_rows(tokeniser, [row])
    assert window.num_bytes == len("स्वागत है".encode())
    assert window.ids[: window.num_context_tokens] == tuple(encoded[0][: encoded[1]])


def test_both_spellings_give_the_same_rows(tmp_path: Path) -> None:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    other = [{"from": names[m["role"]], "value": m["content"]} for m in TALK]
    _lines(tmp_path / "a.jsonl", {"messages": TALK})
    _lines(tmp_path / "b.jsonl", {"conversations": other})
    _lines(tmp_path / "c.jsonl", {"talk": TALK, "language": "hi"})
    expected = talk_rows(TALK, "hi")
    assert read_rows(tmp_path / "a.jsonl", language="hi") == expected
    assert read_rows(tmp_path / "b.jsonl", language="hi") == expected
    columns = {"messages": "talk"}
    assert read_rows(tmp_path / "c.jsonl", language="en", columns=columns) == expected
    check_source(tmp_path / "c.jsonl", language="hi", columns=columns, bad_rows="refuse")
    assert read_rows(tmp_path / "a.jsonl", language="hi", max_rows=1) == expected[:1]


def test_peer_finetune_trains_on_talks_and_on_alpaca_s_array(tmp_path: Path) -> None:
    _lines(tmp_path / "talks.jsonl", {"talk": TALK})
    (tmp_path / "alpaca.json").write_text(json.dumps(ALPACA[:5]))
    for name, columns, number in (("talks.jsonl", "messages=talk", 3), ("alpaca.json", "", 5)):
        settings = FinetuneConfig(
            join="seshu://x", language="hi", data=str(tmp_path / name), columns=columns
        )
        check_rows(settings)
        assert len(own_rows(settings, lambda: False).rows) == number


def test_a_question_at_the_end_is_left_out() -> None:
    assert talk_rows(TALK[:4], "hi") == talk_rows(TALK[:3], "hi") != []


@pytest.mark.parametrize(
    ("talk", "what"),
    [
        ("hello", "a talk that is 'hello'"),
        (["hello"], "a message that is 'hello'"),
        ([{"role": "tool", "content": "x"}], "a message by 'tool'"),
        ([{"role": "user", "content": ["x"]}], "a message that is list"),
        (TALK[2:4], "message 1 is by 'assistant'"),
        ([TALK[1], TALK[1]], "message 2 is by 'user'"),
        ([TALK[1], {"role": "assistant", "content": " "}], "message 2 is empty"),
        (TALK[:2], "a talk without an answer"),
        ([], "a talk without an answer"),
    ],
)
def test_other_shapes_are_named(tmp_path: Path, talk: Any, what: str) -> None:
    _lines(tmp_path / "talks.jsonl", {"messages": talk}, {"messages": TALK})
    with pytest.raises(DataError, match=f"talks.jsonl line 1: {what}"):
        read_rows(tmp_path / "talks.jsonl", language="hi")
    rows = read_rows(tmp_path / "talks.jsonl", language="hi", bad_rows="skip")
    assert rows == talk_rows(TALK, "hi")


ALPACA = [{"instruction": f"Name {i}", "input": "", "output": f"नाम {i}"} for i in range(3000)]


def test_alpaca_s_array_is_read_as_its_lines_are(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ALPACA, indent=4), encoding="utf-8")
    # A byte order mark, and an element larger than what is read at once.
    large = [*ALPACA[:2], {"instruction": "q", "output": "अ" * 150_000}]
    (tmp_path / "b.json").write_text("\ufeff" + json.dumps(large, ensure_ascii=False))
    _lines(tmp_path / "c.json", *ALPACA)
    (tmp_path / "manifest.json").write_text('{"kind": "catalogue"}')
    expected = [Row(t["instruction"], "", t["output"], "hi") for t in ALPACA]
    assert read_rows(tmp_path / "a.json", language="hi") == expected
    assert read_rows(tmp_path / "c.json", language="hi") == expected
    found = read_rows(tmp_path / "b.json", language="hi")
    assert [row.output for row in found] == [t["output"] for t in large]
    (tmp_path / "c.json").unlink()
    assert len(read_rows(tmp_path, language="hi")) == 3003, "manifests are passed over"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'[{"instruction": "q", "output": "a"}, ', "no JSON array"),
        (b'[{"instruction": "q", "output": "a"} "x"]', "element 2: a str"),
        (b'[{"instruction": "q", "output": "\xff"}]', "surrogate"),
        (b'[{"instruction": "q", "output": ""}]', "'output' is empty"),
        (b"[]", "holds no rows"),
        (b"", "holds no rows"),
        (b"{", "not JSON"),
    ],
)
def test_broken_arrays_are_named(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DataError, match=what):
        read_rows(tmp_path / "a.json", language="hi")


def _lines(path: Path, *tables: Any) -> None:
    path.write_text("".join(json.dumps(table) + "\n" for table in tables), encoding="utf-8")
