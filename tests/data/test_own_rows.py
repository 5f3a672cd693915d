"""A donor's own rows in every format, through the same libraries as in use."""

import csv
import json
import unicodedata
from pathlib import Path
from unicodedata import category

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from seshu_swarm.data.folder import translation_rows
from seshu_swarm.data.hub_rows import Part, stream_dataset
from seshu_swarm.data.own_rows import check_source, is_hub_name, read_rows
from seshu_swarm.data.prompts import encode_row
from seshu_swarm.data.text import Row
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.peer.donating.lora_settings import MAX_ROW_TOKENS

TABLES = [{"q": "Name it", "c": "Japan", "a": "जापान"}, {"q": "And", "c": "", "a": "चीन"}]
COLUMNS = {"instruction": "q", "input": "c", "output": "a"}
ROWS = [Row("Name it", "Japan", "जापान", "hi"), Row("And", "", "चीन", "hi")]


def write(path: Path) -> Path:
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(t) + "\n" for t in TABLES), encoding="utf-8")
        case ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, ["q", "c", "a"])
                writer.writeheader()
                writer.writerows(TABLES)
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(TABLES), path)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_each_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    assert read_rows(path, language="hi", columns=COLUMNS) == ROWS
    assert read_rows(tmp_path, language="hi", columns=COLUMNS) == ROWS  # the folder


def test_our_own_names_need_no_map_and_input_may_be_absent(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "q", "output": "a", "language": "en"}\n')
    assert read_rows(path, language="hi") == [Row("q", "", "a", "en")]


def test_plain_text_becomes_rows_without_a_question(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("एक\nदो\n\nतीन\n" + "\n".join(["x" * 200] * 3), encoding="utf-8")
    outputs = [row.output for row in read_rows(path, language="hi")]
    assert outputs == ["एक\nदो", "तीन\n" + "\n".join(["x" * 200] * 2), "x" * 200]


def test_no_byte_of_plain_text_is_cut_off_by_training(tmp_path: Path) -> None:
    # ड़ as one character is three bytes, and six in NFC.
    lines = ["वह घर जाता है। " * 60, "कि" * 700, "\u095c" * 400, "short", "x" * 500, "x" * 501]
    path = tmp_path / "book.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    rows = read_rows(path, language="hi")
    tokeniser = ByteTokeniser()
    for row in rows:
        ids, _ = encode_row(tokeniser, row, MAX_ROW_TOKENS)
        assert ids == [*tokeniser.encode(row.output), tokeniser.eos_id]
        assert not category(row.output[0]).startswith("M"), "a mark without its letter"
    given = unicodedata.normalize("NFC", "".join(lines))
    assert "".join("".join(row.output for row in rows).split()) == "".join(given.split())
    words = {word for row in rows for word in row.output.split() if "वह" in row.output}
    assert {"वह", "घर", "जाता", "है।"} <= words
    assert not words & {"व", "ह", "घ", "र", "जा", "ता", "है"}


def test_a_csv_line_with_too_many_fields_is_refused_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("instruction,output\nq,a\nq,yes, it is\n")
    with pytest.raises(DataError, match=r"rows.csv line 3: more fields than columns.*quoted"):
        read_rows(path, language="en")
    assert read_rows(path, language="en", bad_rows="skip") == [Row("q", "", "a", "en")]
    assert "1 rows skipped" in caplog.text


@pytest.mark.parametrize("name", ["rows/hi.jsonl", "rows/HI.CSV", "./rows", "../rows", "a/b.json"])
def test_a_path_that_is_missing_is_never_asked_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name(name)
    with pytest.raises(DataError, match="is not there"):
        read_rows(name, language="hi")
    with pytest.raises(DataError, match="is not there"):
        check_source(name, language="hi", columns={}, bad_rows="refuse")


def test_names_of_the_hub_are_told_from_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_hub_name("ai4bharat/samanantar") and is_hub_name("owner/set-v1.5")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ai4bharat" / "samanantar").mkdir(parents=True)
    assert not is_hub_name("ai4bharat/samanantar")


def test_what_is_wrong_with_a_source_is_found_in_its_first_row(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv")
    check_source(path, language="hi", columns=COLUMNS, bad_rows="refuse")
    check_source("owner/name", language="hi", columns={}, bad_rows="refuse")
    with pytest.raises(DataError, match=r"rows.csv line 2: no key 'output'"):
        check_source(path, language="hi", columns={}, bad_rows="refuse")
    with pytest.raises(UsageError, match="column map names 'answer'"):
        check_source("owner/name", language="hi", columns={"answer": "a"}, bad_rows="skip")
    # A row that is bad later is for the reader.
    with path.open("a") as file:
        file.write("one,two,three,four\n")
    check_source(path, language="hi", columns=COLUMNS, bad_rows="refuse")


def test_errors_name_source_line_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv")
    with pytest.raises(
        DataError, match=r"rows.csv line 2: no key 'output' \(it has a, c, q\).*--columns"
    ):
        read_rows(path, language="hi")
    with pytest.raises(UsageError, match="column map names 'answer'"):
        read_rows(path, language="hi", columns={"answer": "a"})
    with pytest.raises(DataError, match="nowhere is not there"):
        read_rows(tmp_path / "nowhere", language="hi")
    (tmp_path / "rows.xml").write_text("<a/>")
    with pytest.raises(DataError, match=r"\.jsonl \.json \.csv"):
        read_rows(tmp_path / "rows.xml", language="hi")
    (tmp_path / "bad.txt").write_bytes(b"ok\n\xff\n")
    with pytest.raises(DataError, match=r"bad.txt line 2: not UTF-8"):
        read_rows(tmp_path / "bad.txt", language="hi")
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="is not Parquet"):
        read_rows(tmp_path / "bad.parquet", language="hi")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no rows"):
        read_rows(tmp_path / "empty.txt", language="hi")


def test_bad_rows_may_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "q", "output": "a"}\n{"output": ""}\n')
    with pytest.raises(DataError, match="line 2: 'output' is empty"):
        read_rows(path, language="en")
    assert read_rows(path, language="en", bad_rows="skip") == [Row("q", "", "a", "en")]


PAIRS = [(f"Sentence {n}.", f"वाक्य {n}।") for n in range(40)]


def write_pairs(path: Path, pairs: list[tuple[str, str]], names: tuple[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["idx", *names])
        writer.writeheader()
        for n, (english, native) in enumerate(pairs):
            writer.writerow({"idx": n, names[0]: english, names[1]: native})
    return path


def test_pairs_become_translation_rows_both_ways(tmp_path: Path) -> None:
    path = write_pairs(
        tmp_path / "en-hi.csv", [*PAIRS, ("Left.", "not translated")], ("src", "tgt")
    )
    rows = read_rows(path, language="hi")
    assert rows == translation_rows(PAIRS, "hi", len(PAIRS))
    into = {(row.input, row.output) for row in rows if row.language == "hi"}
    back = {(row.output, row.input) for row in rows if row.language == "en"}
    assert into == set(PAIRS) and len(back) == 10 and back < into
    write_pairs(tmp_path / "named.csv", PAIRS, ("english", "hindi"))
    columns = {"src": "english", "tgt": "hindi"}
    assert read_rows(tmp_path / "named.csv", language="hi", columns=columns) == rows


def test_a_folder_s_pairs_of_other_languages_are_passed_over(tmp_path: Path) -> None:
    write_pairs(tmp_path / "deep" / "en-hi.csv", PAIRS, ("src", "tgt"))
    write_pairs(tmp_path / "en-mr.csv", [("Other.", "दूसरा।")], ("src", "tgt"))
    write(tmp_path / "rows.jsonl")
    rows = read_rows(tmp_path, language="hi", columns={"instruction": "q", "output": "a"})
    assert {row.input for row in rows} >= {english for english, _ in PAIRS}
    assert not any("Other." in (row.input, row.output) for row in rows)
    assert Row("Name it", "", "जापान", "hi") in rows


def test_a_run_s_folder_is_read_as_the_run_reads_it(tmp_path: Path) -> None:
    (tmp_path / "parallel").mkdir()
    lines = "".join(json.dumps({"src": e, "tgt": n}) + "\n" for e, n in PAIRS)
    (tmp_path / "parallel" / "en-hi.jsonl").write_text(lines, encoding="utf-8")
    rows = read_rows(tmp_path, language="hi")
    assert {(row.input, row.output) for row in rows} == set(PAIRS)
    assert rows == read_rows(tmp_path, language="hi", max_rows=50)
    assert rows[:7] == read_rows(tmp_path, language="hi", max_rows=7)


def test_no_more_rows_are_read_than_wanted(tmp_path: Path) -> None:
    good = json.dumps({"instruction": "q", "output": "a"}) + "\n"
    (tmp_path / "a.jsonl").write_text(good * 3)
    (tmp_path / "b.jsonl").write_text(good * 3 + "broken\n")
    assert len(read_rows(tmp_path, language="en", max_rows=5)) == 5
    with pytest.raises(DataError, match=r"b.jsonl line 4"):
        read_rows(tmp_path, language="en", max_rows=7)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_data_set_is_streamed_by_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl")
    assert [table for _, table in stream_dataset(str(tmp_path / "set"))] == TABLES
    with pytest.raises(DataError, match=r"data set '.*absent' cannot be read"):
        list(stream_dataset(str(tmp_path / "absent")))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_stream_ends_at_the_row_where_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl")
    seen: list[object] = []
    part = Part(should_stop=lambda: len(seen) == 1)
    for _, table in stream_dataset(str(tmp_path / "set"), part):
        seen.append(table)
    assert seen == TABLES[:1]
