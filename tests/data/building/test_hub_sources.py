"""Sources on the Hub: the real command and library against a local Hub."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seshu_swarm.data.hub_rows import SAMANANTAR
from seshu_swarm.packages import verify
from tests.data.building.helpers import books_of, sentence, write_recipe
from tests.data.test_hub_rows import CARD, parquet
from tests.stores.hub_server import HubServer

pytestmark = pytest.mark.swarm

RNG = random.Random(0)
PAIRS = [(f"Sentence number {n} in English.", sentence(RNG)) for n in range(60)]
TAMIL = [(f"Sentence {n}.", f"இது தமிழில் எழுதப்பட்ட வாக்கியம் எண் {n} ஆகும்.") for n in range(20)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    server = HubServer(tmp_path_factory.mktemp("hub"))
    files = {"hi/train.parquet": parquet(PAIRS), "ta/train.parquet": parquet(TAMIL)}
    server.add(SAMANANTAR, {"README.md": CARD.encode(), **files})
    rows = [{"body": sentence(RNG)} for _ in range(10)]
    lines = "".join(json.dumps(table) + "\n" for table in rows).encode()
    server.add("someone/stories", {"train.jsonl": lines})
    server.add("someone/secrets", {"train.jsonl": lines})
    server.repositories["someone/secrets"].access = "gated"
    yield server
    server.close()


def hub_source(name: str, more: str = "") -> str:
    return (
        f'[[sources]]\nname = "hub"\nkind = "hub"\npath = "{name}"\nlanguage = "hi"\n'
        f'licence = "CC0-1.0"\n{more}\n'
    )


PAIRS_SOURCE = '[[sources]]\nname = "pairs"\nkind = "samanantar"\nmax_rows = 50\n'
RECIPES = {
    "whole": PAIRS_SOURCE + hub_source("someone/stories", 'text = "body"'),
    "missing": hub_source("someone/nothing"),
    "gated": hub_source("someone/secrets"),
    "column": hub_source("someone/stories"),
}
# The library reads its environment when it is imported, once for all of them.
BUILD = """
import json, sys
from pathlib import Path
from seshu_swarm.data.building.run import build
from seshu_swarm.errors import DataError
said = {}
for folder in map(Path, sys.argv[1:]):
    try:
        said[folder.name] = build(folder / "recipe.toml", folder / "out", num_workers=1).digest
    except DataError as error:
        said[folder.name] = str(error)
print(json.dumps(said))
"""


def test_sets_are_streamed_and_those_that_cannot_be_read_are_named(
    hub: HubServer, tmp_path: Path
) -> None:
    for name, text in RECIPES.items():
        (tmp_path / name).mkdir()
        write_recipe(tmp_path / name, text, languages='["hi", "ta"]')
    ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    ours |= {f"HF_HUB_DISABLE_{what}": "1" for what in ("XET", "TELEMETRY")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *(str(tmp_path / name) for name in RECIPES)],
        env=kept | ours | {"no_proxy": ours["NO_PROXY"]},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    verify(tmp_path / "whole" / "out", said["whole"])
    books = books_of(tmp_path / "whole" / "out")
    assert books["sources"]["pairs"]["read"] == {"hi": 50, "ta": 20}
    assert books["sources"]["pairs"]["licence"] == "CC-BY-NC-4.0"
    assert books["sources"]["hub"]["kept"] == {"hi": 10}
    assert "'someone/nothing' cannot be read" in said["missing"]
    assert "'someone/secrets' cannot be read" in said["gated"]
    assert "no column 'text'; it has body" in said["column"]
    assert not list(tmp_path.glob("[mgc]*/out/manifest.json"))
