"""The whole way of a recipe: a catalogue that a run can use, and books that add up."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from seshu_swarm.data.building.recipe import Duplicates, Filters, Mixture, Packing, read_recipe
from seshu_swarm.data.building.run import build
from seshu_swarm.data.catalogue import deal, read_pretrain_shard, shards_of
from seshu_swarm.data.folder import read_documents, read_folder
from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.packages import verify
from tests.data.building.helpers import (
    books_of,
    document,
    phrases,
    sentence,
    source,
    write_jsonl,
    write_recipe,
)

TWO = """
[[sources]]
name = "own"
kind = "jsonl"
path = "rows/*.jsonl"
language_column = "lang"
licence = "CC BY 4.0"
epochs = 2.0
[[sources]]
name = "cldr"
kind = "phrasebook"
[duplicates]
near = false
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = random.Random(1)
    (tmp_path / "rows").mkdir()
    for k in range(3):
        tables = [{"lang": "hi", "text": document(rng)} for _ in range(40)]
        tables += [{"lang": "ta", "text": text} for text in phrases("ta", 20)]
        write_jsonl(tmp_path / "rows" / f"{k}.jsonl", tables)
    return tmp_path


def test_a_catalogue_can_be_dealt_and_read_and_its_books_add_up(folder: Path) -> None:
    recipe = write_recipe(folder, TWO, languages='["hi", "ta", "bn"]')
    built = build(recipe, folder / "out", num_workers=1)
    manifest = verify(folder / "out", built.digest)
    texts: dict[str, list[str]] = {}
    for language in ("hi", "ta", "bn"):
        names = shards_of(manifest, language, pretrain=True)
        assert deal("a peer", 0, names) in names
        for name in names:
            documents = read_pretrain_shard(folder / "out" / name)
            assert manifest.about["items"][name] == len(documents)
            texts.setdefault(language, []).extend(found.text for found in documents)
    # Twice each of 120 own documents, once each of the phrasebook's.
    assert len(texts["hi"]) == 2 * 120 + 400 and len(set(texts["hi"])) == 120 + 400
    # The three files have the same 20 Tamil texts.
    assert len(texts["ta"]) == 2 * 20 + 400
    books = books_of(folder / "out")
    read, duplicates, mixture = books["steps"]
    assert read["in"] == 3 * 60 + 3 * 400 == read["out"]
    assert duplicates["reasons"] == {"exact_duplicate": 40, "near_duplicate": 0}
    assert mixture["out"] == sum(map(len, texts.values()))
    for step in books["steps"]:
        left_out = sum(step.get("reasons", {}).values())
        assert step["in"] + step["added"] == step["out"] + left_out
    assert manifest.about["licences"] == {"own": "CC BY 4.0", "cldr": "Unicode-3.0"}
    assert list((folder / "out").glob(".*")) == []


def test_the_same_recipe_gives_the_same_digest_with_any_number_of_processes(folder: Path) -> None:
    recipe = write_recipe(folder, TWO.replace("near = false", ""), languages='["hi", "ta"]')
    digests = {
        build(recipe, folder / f"out{workers}", num_workers=workers).digest for workers in (1, 2)
    }
    assert len(digests) == 1
    again = build(recipe, folder / "out1", num_workers=1)
    assert {again.digest} == digests and again.steps == ()
    write_recipe(folder, "seed = 1" + TWO, languages='["hi", "ta"]')
    with pytest.raises(UsageError, match="another recipe"):
        build(recipe, folder / "out1", num_workers=1)
    assert build(recipe, folder / "out3", num_workers=1).digest not in digests


def test_a_run_can_be_opened_on_a_catalogue(folder: Path) -> None:
    recipe = write_recipe(folder, TWO, languages='["hi", "ta"]')
    build(recipe, folder / "out", num_workers=1)
    corpus = read_folder(folder / "out", ["hi", "ta"])
    assert len(corpus.documents["hi"]) == 2 * 120 + 400
    assert read_documents(folder / "out", ["hi", "ta"]).keys() == {"hi", "ta"}
    with pytest.raises(DataError, match=r"pretrain-ta-000.jsonl is in no language"):
        read_documents(folder / "out", ["hi"])


def test_the_recipe_of_the_documentation_holds_the_defaults(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert recipe.filters == Filters() and recipe.duplicates == Duplicates()
    assert recipe.mixture == Mixture() and recipe.packing == Packing()


@pytest.mark.swarm
def test_a_build_that_is_killed_goes_on_and_ends_with_the_same_digest(folder: Path) -> None:
    rng = random.Random(2)
    for k in range(3, 8):
        rows = [{"lang": "hi", "text": document(rng)} for _ in range(300)]
        write_jsonl(folder / "rows" / f"{k}.jsonl", rows)
    recipe = write_recipe(folder, TWO.replace("near = false", ""), languages='["hi", "ta"]')
    whole = build(recipe, folder / "whole", num_workers=1).digest
    out = folder / "killed"
    command = [sys.executable, "-m", "seshu_swarm", "data", "build", str(recipe)]
    with subprocess.Popen(
        [*command, "--out", str(out), "--workers", "2", "--log-format", "json"],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        said = iter(process.stdout)
        assert any(b'"reading"' in line for line in said), "it ended before a piece was read"
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert len(children) >= 2 and not alive, "workers end with the build"
    books = {path: path.stat().st_mtime_ns for path in out.glob(".work/spools/*.book.json")}
    assert books and not (out / "manifest.json").exists()
    done = subprocess.run(
        [*command, "--out", str(out), "--workers", "1", "--log-format", "json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "going on with the work" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["digest"] == whole
    total = 2 + 8  # the phrasebook's languages and the files
    first = next(json.loads(x) for x in done.stdout.splitlines() if '"reading"' in x)
    assert int(first["tasks"].split("/")[1]) < total, "what was done is not done again"


def test_a_folder_with_other_files_is_left_alone(folder: Path) -> None:
    recipe = write_recipe(folder, TWO, languages='["hi", "ta"]')
    with pytest.raises(UsageError, match="holds other files"):
        build(recipe, folder, num_workers=1)
    assert recipe.exists()


def test_a_language_without_text_is_named(folder: Path) -> None:
    write_jsonl(folder / "hi.jsonl", [{"text": document(random.Random(3))}])
    recipe = write_recipe(folder, source("hi.jsonl"), languages='["hi", "kn"]')
    built = build(recipe, folder / "out", num_workers=1)
    assert built.empty_languages == ["kn"] == books_of(folder / "out")["empty_languages"]


def test_nothing_kept_is_an_error_that_says_why(folder: Path) -> None:
    write_jsonl(folder / "hi.jsonl", [{"text": "Only English letters in this one here."}] * 3)
    recipe = write_recipe(folder, source("hi.jsonl"))
    with pytest.raises(DataError, match="nothing was kept of 3 rows: wrong_script 3"):
        build(recipe, folder / "out", num_workers=1)


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from seshu_swarm.__main__ import main
sys.exit(main())
"""


def test_a_full_disk_is_named_and_the_build_goes_on_afterwards(folder: Path) -> None:
    rng = random.Random(4)
    write_jsonl(folder / "hi.jsonl", [{"text": document(rng)} for _ in range(400)])
    recipe = write_recipe(folder, source("hi.jsonl"))
    command = ["data", "build", str(recipe), "--out", str(folder / "out"), "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 31 and "no room on the disk" in done.stderr
    assert "give the same command again" in done.stderr and "Traceback" not in done.stderr
    whole = build(recipe, folder / "whole", num_workers=1).digest
    assert build(recipe, folder / "out", num_workers=1).digest == whole


def test_long_texts_are_cut_so_that_a_shard_can_be_read(folder: Path) -> None:
    rng = random.Random(5)
    text = "\n".join(sentence(rng, 20) for _ in range(6_000))
    write_jsonl(folder / "hi.jsonl", [{"text": text}])
    recipe = write_recipe(folder, source("hi.jsonl"))
    built = build(recipe, folder / "out", num_workers=1)
    manifest = verify(folder / "out", built.digest)
    parts = [
        part
        for name in shards_of(manifest, "hi", pretrain=True)
        for part in read_pretrain_shard(folder / "out" / name)
    ]
    # Parts carry numbers, and together are the whole.
    parts.sort(key=lambda part: int(part.id.split("-")[3]) if part.id.count("-") > 2 else 0)
    assert len(parts) > 2 and "\n".join(part.text for part in parts) == text
