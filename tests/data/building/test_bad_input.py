"""Bad input: every row that cannot be used is named and counted; a source that is wrong as a whole
stops the build before any work."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from seshu_swarm.data.building.run import build
from seshu_swarm.data.catalogue import read_pretrain_shard
from seshu_swarm.errors import DataError, UsageError
from tests.data.building.helpers import (
    books_of,
    document,
    source,
    write_jsonl,
    write_recipe,
)

RNG = random.Random(0)
GOOD = [document(RNG) for _ in range(4)]


def built(folder: Path, text: str, languages: str = '["hi"]') -> tuple[list[str], dict[str, Any]]:
    """All kept texts, and the books."""
    build(write_recipe(folder, text, languages=languages), folder / "out", num_workers=1)
    shards = sorted((folder / "out").glob("pretrain-*.jsonl"))
    texts = [found.text for shard in shards for found in read_pretrain_shard(shard)]
    return sorted(texts), books_of(folder / "out")


def reasons(books: dict[str, Any]) -> dict[str, int]:
    read = books["steps"][0]
    assert read["in"] + read["added"] == read["out"] + sum(read["reasons"].values())
    found: dict[str, int] = read["reasons"]
    return found


def test_every_broken_line_of_jsonl_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in GOOD])
    bad = [
        b'{"text": "\xff\xfe"}',
        b'{"text": ',
        b"[1, 2]",
        b'{"body": "x"}',
        b'{"text": 5}',
        b'{"text": null}',
        b'{"text": "a\\u0000b"}',
        b'{"text": "\\ud800 x"}',
        '{"text": "\ufffd\ufffd"}'.encode(),
        b'{"text": "  \\n "}',
        b'{"text": "' + b"x" * 3_000_000 + b'"}',
        b"[" * 100_000,
    ]
    path.write_bytes(path.read_bytes() + b"\n".join(bad) + b"\n")
    texts, books = built(tmp_path, "max_line_bytes = 1000000\n" + source("rows.jsonl"))
    assert texts == sorted(GOOD)
    assert reasons(books) == {
        "not_utf8": 1,
        "not_json": 3,
        "no_text_column": 1,
        "text_is_no_text": 2,
        "nul_bytes": 1,
        "lone_surrogate": 1,
        "replacement_characters": 1,
        "empty": 1,
        "line_too_long": 1,
    }
    first = path.read_bytes().index(bad[0])
    assert books["read"]["examples"]["not_utf8"] == [
        f"rows.jsonl byte {first}: not UTF-8 at byte 10"
    ]


def test_newlines_of_all_kinds_are_one(tmp_path: Path) -> None:
    lines = [found.split("\n") for found in GOOD]
    ends = ["\n", "\r\n", "\r", "\n"]
    joined = [end.join(some) + end for end, some in zip(ends, lines, strict=True)]
    raw = "\ufeff" + joined[0] + "\n" + joined[1] + "\r\n" + joined[2] + "\r" + joined[3]
    (tmp_path / "a.txt").write_bytes(raw.encode())
    texts, books = built(tmp_path, source("a.txt", "text"))
    assert texts == sorted(GOOD) and not reasons(books)


def test_a_text_file_of_lines_and_its_broken_ones(tmp_path: Path) -> None:
    lines = [line.encode() for found in GOOD for line in found.split("\n")]
    (tmp_path / "a.txt").write_bytes(b"\r\n".join([*lines, b"\xc3\x28 broken", b"nul\0nul"]))
    texts, books = built(tmp_path, source("a.txt", "text", more='language="hi"\nrecords="lines"'))
    assert texts == sorted(line.decode() for line in lines)
    assert reasons(books) == {"not_utf8": 1, "nul_bytes": 1}


def test_a_line_of_a_hundred_megabytes_takes_no_memory(tmp_path: Path) -> None:
    import tracemalloc

    with (tmp_path / "a.txt").open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\n\n" + GOOD[0].encode())
    text = "max_line_bytes = 100000\n" + source("a.txt", "text")
    tracemalloc.start()
    texts, books = built(tmp_path, text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts == [GOOD[0]] and reasons(books) == {"line_too_long": 1}
    assert peak < 60_000_000


def test_csv_with_broken_rows(tmp_path: Path) -> None:
    quoted = [f'"{text}",1' for text in GOOD]
    rows = ["text,n", quoted[0], "too,many,fields", "few", *quoted[1:]]
    path = tmp_path / "a.csv"
    path.write_bytes("\r\n".join(rows).encode() + b"\r\n\xff\xfe,1\r\n")
    texts, books = built(tmp_path, source("a.csv", "csv"))
    assert texts == sorted(GOOD)
    assert reasons(books) == {"wrong_columns": 2, "not_utf8": 1}


def test_a_quote_that_is_never_closed_costs_its_rows_and_is_named(tmp_path: Path) -> None:
    good = [f'"{text}"' for text in GOOD]
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "\n".join(good) + '\n"open\n' + "more\n" * 3_000)
    texts, books = built(tmp_path, "max_line_bytes = 10000\n" + source("a.csv", "csv"))
    assert set(GOOD) <= set(texts) and reasons(books)["not_csv"] >= 1


def test_parquet_with_nulls(tmp_path: Path) -> None:
    table = pa.table({"body": [*GOOD[:2], None, *GOOD[2:]], "n": list(range(5))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    more = 'language = "hi"\ntext = "body"'
    texts, books = built(tmp_path, source("a.parquet", "parquet", more=more))
    assert texts == sorted(GOOD) and reasons(books) == {"text_is_no_text": 1}


def test_rows_in_other_languages_and_scripts_are_named(tmp_path: Path) -> None:
    rows = [{"lang": "hi", "text": text} for text in GOOD]
    rows += [{"lang": "fr", "text": "Bonjour à tous les amis de la ville."}]
    rows += [{"lang": "hi", "text": "English under the name of Hindi is no Hindi."}]
    rows += [{"text": GOOD[0]}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    _, books = built(tmp_path, source("a.jsonl", more='language_column = "lang"'))
    assert reasons(books) == {"other_language": 1, "wrong_script": 1, "no_language": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            source("a.jsonl").replace("licence", "license"),
            r"unknown key 'sources.0.license'.*licence",
        ),
        ("[filter]\nmin_bytes = 3\n" + source("a.jsonl"), "unknown key 'filter'.*'filters'"),
        ("[filters]\nmin_byte = 3\n" + source("a.jsonl"), "'filters.min_byte'.*'min_bytes'"),
        ('[filters]\nmin_bytes = "3"\n' + source("a.jsonl"), "filters.min_bytes: .*integer"),
        ("[filters]\nmin_script_share = 3.0\n" + source("a.jsonl"), "less than or equal to 1"),
        (source("a.jsonl", "jsonk"), "kind: .*'jsonl'"),
        (source("a.jsonl", more=""), "neither language nor language_column"),
        (source("a.jsonl", more='language = "ta"'), "is in 'ta'"),
        (source("a.jsonl").replace('licence = "CC0-1.0"', ""), "has no licence"),
        (source("a.jsonl") * 2, "two sources are called 'own'"),
        (source("a.jsonl", more='language = "hi"\nmax_rows = 3'), "max_rows is for data sets"),
        ("", "sources: Field required"),
        ("sources = 3", "sources: "),
        ("= 3", "is not TOML"),
    ],
)
def test_a_wrong_recipe_is_a_usage_error_that_says_what_was_meant(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        build(write_recipe(tmp_path, text), tmp_path / "out", num_workers=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (source("nowhere/*.jsonl"), "no file matches"),
        (source("a.jsonl", more='language = "hi"\ntext = "texts"'), "no column 'texts'.*'text'"),
        (source("a.csv", "csv"), "no column 'text'; it has body, n"),
        (source("a.jsonl", "parquet"), "is not Parquet"),
        ('[words]\nrefusals = ["empty.txt"]\n' + source("a.jsonl"), "holds no words"),
        ('holdouts = ["short.jsonl"]\n' + source("a.jsonl"), "holds no text to keep apart"),
        ('holdouts = ["a.csv"]\n' + source("a.jsonl"), "a.csv line 1: not JSON"),
    ],
)
def test_a_source_that_is_wrong_as_a_whole_stops_the_build(
    tmp_path: Path, text: str, said: str
) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": GOOD[0]}])
    (tmp_path / "a.csv").write_text("body,n\nx,1\n")
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    (tmp_path / "short.jsonl").write_text('{"answer": "4"}\n')
    with pytest.raises(DataError, match=said):
        build(write_recipe(tmp_path, text), tmp_path / "out", num_workers=1)
    assert not (tmp_path / "out" / "manifest.json").exists()
