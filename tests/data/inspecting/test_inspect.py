"""`data inspect` on real files: every shape, what is broken, a build's books, plots."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from seshu_swarm.data.building.config import DataBuildConfig
from seshu_swarm.data.building.run import run as build
from seshu_swarm.data.building.tally import Bad
from seshu_swarm.data.inspecting import reading
from seshu_swarm.data.inspecting.config import DataInspectConfig
from seshu_swarm.data.inspecting.kept import kept_of
from seshu_swarm.data.inspecting.reading import Item, items_of
from seshu_swarm.data.inspecting.run import run
from seshu_swarm.errors import DataError, UsageError

PNG = b"\x89PNG\r\n\x1a\n"
TALK = {"messages": [{"role": "user", "content": "क"}, {"role": "assistant", "content": "ख"}]}
TABLES = [
    {"text": "एक"},
    {"instruction": "Name it", "input": "Japan", "output": "जापान"},
    {"src": "one", "tgt": "एक"},
    TALK,
    {"text": "one", "language": "en"},
]
ITEMS = [
    ("hi", "", "एक"),
    ("hi", "Name it\nJapan", "जापान"),
    ("hi", "one", "एक"),
    ("hi", "", "क\nख"),
    ("en", "", "one"),
]


def found_in(path: Path, column: str = "") -> list[tuple[str, str, str]]:
    items = [item for item in items_of(path, column=column) if isinstance(item, Item)]
    return [(item.language, item.before, item.text) for item in items]


def reasons_in(path: Path, column: str = "") -> list[str]:
    return [bad.reason for bad in items_of(path, column=column) if isinstance(bad, Bad)]


def lines(*tables: object) -> bytes:
    return "".join(json.dumps(t, ensure_ascii=False) + "\n" for t in tables).encode()


@pytest.mark.parametrize("name", ["hi.jsonl", "en-hi.jsonl", "pretrain-hi-003.jsonl", "hi.json"])
def test_every_shape_of_json_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(json.dumps(TABLES).encode() if name == "hi.json" else lines(*TABLES))
    assert found_in(path) == ITEMS and not reasons_in(path)
    other = path.rename(tmp_path / f"my rows{path.suffix}")
    assert {language for language, _, _ in found_in(other)} == {"und", "en"}


def test_other_files_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "hi.txt").write_bytes("\ufeffएक\r\nदो\n\nतीन".encode())
    assert [text for _, _, text in found_in(tmp_path / "hi.txt")] == ["एक", "दो", "तीन"]
    (tmp_path / "hi.csv").write_text('text,other\n"एक, दो",x\n"a\nb",y\n', encoding="utf-8")
    assert [text for _, _, text in found_in(tmp_path / "hi.csv")] == ["एक, दो", "a\nb"]
    assert [text for _, _, text in found_in(tmp_path / "hi.csv", "other")] == ["x", "y"]
    pq.write_table(pa.Table.from_pylist([{"text": "एक"}, {"text": None}]), tmp_path / "hi.parquet")
    assert [text for _, _, text in found_in(tmp_path / "hi.parquet")] == ["एक"]
    assert reasons_in(tmp_path / "hi.parquet") == ["text_is_no_text"]


def test_what_is_broken_is_named_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 200)
    path = tmp_path / "hi.jsonl"
    broken = [
        b'{"text": "\xff"}\n',
        b"not json\n",
        b"[1]\n",
        lines({"body": "x"}),
        lines({"text": 3}),
        lines({"text": " "}),
        b'{"text": "\\ud800"}\n',
        lines({"text": "x" * 300}),
    ]
    path.write_bytes(lines({"text": "एक"}) + b"".join(broken) + lines({"text": "दो"}))
    assert [text for _, _, text in found_in(path)] == ["एक", "दो"]
    assert reasons_in(path) == [
        "not_utf8",
        "not_json",
        "not_json",
        "unknown_columns",
        "text_is_no_text",
        "empty_text",
        "not_utf8",
        "line_too_long",
    ]
    (bad, *_) = [item for item in items_of(path) if isinstance(item, Bad)]
    assert bad.place == "hi.jsonl line 2" and "byte 10" in bad.what
    (tmp_path / "hi.csv").write_bytes(b"text\nab\n\xff\nx,y\ncd\n")
    assert [text for _, _, text in found_in(tmp_path / "hi.csv")] == ["ab", "cd"]
    assert reasons_in(tmp_path / "hi.csv") == ["not_utf8", "too_many_fields"]


def inspected(source: Path, tmp_path: Path, **asked: object) -> dict[str, object]:
    report = tmp_path / "report.json"
    settings = DataInspectConfig(source=str(source), json=str(report), **asked)  # type: ignore[arg-type]
    assert run(settings) == 0
    table: dict[str, object] = json.loads(report.read_text(encoding="utf-8"))
    return table


def test_the_command_counts_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "hi.jsonl").write_bytes(lines(*TABLES) + b"{\n")
    (folder / "ta.txt").write_text("ஒன்று\nஒன்று\n", encoding="utf-8")
    (folder / "manifest.json").write_text("{}")
    table = inspected(folder, tmp_path, plots=str(tmp_path / "plots"))
    languages = table["languages"]
    assert isinstance(languages, dict)
    assert {name: found["rows"] for name, found in languages.items()} == {"en": 1, "hi": 4, "ta": 2}
    assert languages["ta"]["duplicate_share"] == 0.5
    assert table["left_out"] == {"not_json": 1} and table["kept"] == {}
    said = capsys.readouterr().out
    assert "left out: 1 not_json (hi.jsonl line 6" in said and "ta: ஒன்று" in said
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"lengths.png", "duplicates.png"}
    assert all((tmp_path / "plots" / name).read_bytes().startswith(PNG) for name in names)


def test_a_build_s_books_say_what_was_kept(tmp_path: Path) -> None:
    texts = [f"यह वाक्य संख्या {i} है और यह इतना लंबा है कि रखा जाए।" for i in range(40)]
    (tmp_path / "hi.jsonl").write_bytes(lines(*({"text": text} for text in [*texts, texts[0]])))
    (tmp_path / "recipe.toml").write_text(
        'languages = ["hi"]\n[[sources]]\nname = "own"\nkind = "jsonl"\n'
        'path = "hi.jsonl"\nlanguage = "hi"\nlicence = "CC0-1.0"\n'
    )
    out = tmp_path / "out"
    assert (
        build(DataBuildConfig(recipe=str(tmp_path / "recipe.toml"), out=str(out), workers=1)) == 0
    )
    books = json.loads((out / "books.json").read_text())
    table = inspected(out, tmp_path, plots=str(tmp_path / "plots"))
    kept = kept_of(out)["hi"]
    assert kept.read == 41 and kept.unique == books["steps"][1]["out"] < 41
    assert kept.share == kept.unique / 41
    assert table["kept"]["hi"]["reasons"] == dict(kept.reasons) != {}  # type: ignore[index]
    assert (tmp_path / "plots" / "kept.png").read_bytes().startswith(PNG)
    (out / "books.json").write_text("[]")
    with pytest.raises(DataError, match=r"books\.json is no build's books"):
        kept_of(out)


def test_wrong_sources_are_named(tmp_path: Path) -> None:
    def refused(name: str) -> str:
        with pytest.raises(DataError) as caught:
            run(DataInspectConfig(source=str(tmp_path / name)))
        return str(caught.value)

    assert "nowhere is not there" in refused("nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no files of text" in refused("empty")
    (tmp_path / "a.jsonl").write_bytes(b"")
    assert "holds no text" in refused("a.jsonl")
    (tmp_path / "a.jsonl").write_bytes(lines({"body": "x"}, {"body": "y"}))
    assert "2 unknown_columns" in refused("a.jsonl") and "has body" in refused("a.jsonl")
    (tmp_path / "a.pdf").write_bytes(b"")
    assert "is no file of text" in refused("a.pdf")
    (tmp_path / "a.parquet").write_bytes(b"not parquet")
    assert "is not Parquet" in refused("a.parquet")
    with pytest.raises(UsageError, match="--samples -1"):
        DataInspectConfig(source="x", samples=-1)
