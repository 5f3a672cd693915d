"""Own rows from a data set on the Hub: the real library, in a process of its own, against a local
Hub. It reads its environment when it is imported.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from seshu_swarm.data.folder import translation_rows
from seshu_swarm.data.hub_rows import SAMANANTAR, Part, subset_of
from tests.stores.hub_server import HubServer

pytestmark = pytest.mark.swarm

READ = """
import json, sys
from seshu_swarm.data.hub_rows import Part
from seshu_swarm.data.own_rows import read_rows
from seshu_swarm.errors import SeshuError
asked = json.loads(sys.argv[1])
try:
    rows = read_rows(asked.pop("name"), part=Part(**asked.pop("part", {})), **asked)
    print(json.dumps([[row.instruction, row.input, row.output, row.language] for row in rows]))
except SeshuError as error:
    print(json.dumps({"kind": type(error).__name__, "said": str(error)}))
"""
PAIRS = {
    "hi": [(f"Sentence {n}.", f"वाक्य {n}।") for n in range(30_000)],
    "ta": [(f"Sentence {n}.", f"வாக்கியம் {n}.") for n in range(50)],
}
CARD = """---
configs:
- config_name: hi
  data_files: hi/train.parquet
- config_name: ta
  data_files: ta/train.parquet
---
"""


def parquet(pairs: list[tuple[str, str]]) -> bytes:
    tables = [{"idx": n, "src": src, "tgt": tgt} for n, (src, tgt) in enumerate(pairs)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(tables), buffer, row_group_size=1_000)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    server = HubServer(tmp_path_factory.mktemp("hub"))
    files = {f"{language}/train.parquet": parquet(pairs) for language, pairs in PAIRS.items()}
    server.add(SAMANANTAR, {"README.md": CARD.encode(), **files})
    answers = [
        {"q": "Name it", "a": "जापान", "lang": "hi"},
        {"q": "And", "a": "China", "lang": "en"},
    ]
    lines = "".join(json.dumps(table) + "\n" for table in answers)
    server.add("someone/answers", {"test.jsonl": lines.encode()})
    yield server
    server.close()


def read(hub: HubServer, home: Path, name: str, **asked: Any) -> Any:
    ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1,localhost"}
    ours |= {f"HF_HUB_DISABLE_{what}": "1" for what in ("XET", "TELEMETRY")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps({"name": name, **asked})],
        env=kept | ours | {"no_proxy": ours["NO_PROXY"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Also a stream that was left in the middle ends cleanly.
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout)


def as_lists(pairs: list[tuple[str, str]], language: str) -> list[list[str]]:
    rows = translation_rows(pairs, language, len(pairs))
    return [[row.instruction, row.input, row.output, row.language] for row in rows]


def test_samanantar_by_name_and_language(hub: HubServer, tmp_path: Path) -> None:
    assert read(hub, tmp_path, SAMANANTAR, language="ta") == as_lists(PAIRS["ta"], "ta")
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix == ".parquet"]
    assert not kept, "a streamed data set stays on the Hub"


def test_a_large_set_is_read_in_part(hub: HubServer, tmp_path: Path) -> None:
    first = as_lists(PAIRS["hi"][:1_500], "hi")
    assert read(hub, tmp_path, SAMANANTAR, language="hi", max_rows=1_500) == first
    default = read(hub, tmp_path, SAMANANTAR, language="hi")
    assert sum(row[3] == "hi" for row in default) == 20_000


def test_split_subset_and_columns_are_the_donor_s_choice(hub: HubServer, tmp_path: Path) -> None:
    columns = {"instruction": "q", "output": "a", "language": "lang"}
    asked = {"language": "hi", "columns": columns, "part": {"split": "test"}}
    rows = [["Name it", "", "जापान", "hi"], ["And", "", "China", "en"]]
    assert read(hub, tmp_path, "someone/answers", **asked) == rows
    refused = read(hub, tmp_path, "someone/answers", language="hi", part={"split": "train"})
    assert refused["kind"] == "DataError"
    assert "'someone/answers' cannot be read" in refused["said"] and "--split" in refused["said"]
    refused = read(hub, tmp_path, SAMANANTAR, language="hi", part={"subset": "xx"})
    assert refused["kind"] == "DataError" and "subset 'xx'" in refused["said"]


def test_only_samanantar_has_languages_for_subsets() -> None:
    assert subset_of("AI4Bharat/Samanantar", "hi", Part()) == Part("train", "hi")
    assert subset_of(SAMANANTAR, "hi", Part("train", "ta")) == Part("train", "ta")
    assert subset_of("someone/answers", "hi", Part("test")) == Part("test")
