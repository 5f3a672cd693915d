"""Shards: whole, evenly dealt, and strictly read."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm.data.catalogue import (
    deal,
    read_pretrain_shard,
    read_shard,
    shards_of,
    write_catalogue,
)
from seshu_swarm.data.text import Document, Row
from seshu_swarm.errors import DataError, SeshuError
from seshu_swarm.packages import read_manifest, verify

ROWS = {
    "hi": [Row("q", str(i), f"उत्तर {i}\u2028", "hi") for i in range(25)],
    "ta": [Row("q", "", "விடை", "ta")],
}
DOCUMENTS = {"hi": [Document(f"d{i}", "hi", "पाठ " * 20) for i in range(10)]}


def test_every_row_is_in_one_shard_and_the_digest_pins_all(tmp_path: Path) -> None:
    digest = write_catalogue(tmp_path, ROWS, 10, documents=DOCUMENTS, bytes_per_shard=1000)
    manifest = verify(tmp_path, digest)
    assert manifest.kind == "catalogue"
    names = shards_of(manifest, "hi")
    assert names == ("hi-000.jsonl", "hi-001.jsonl", "hi-002.jsonl")
    shards = [read_shard(tmp_path / name) for name in names]
    assert sorted(map(len, shards)) == [8, 8, 9]
    assert Counter(row for rows in shards for row in rows) == Counter(ROWS["hi"])
    assert manifest.about["items"]["hi-000.jsonl"] == len(shards[0])
    pretrain = shards_of(manifest, "hi", pretrain=True)
    assert pretrain[0] == "pretrain-hi-000.jsonl" and len(pretrain) > 1
    found = [d for name in pretrain for d in read_pretrain_shard(tmp_path / name)]
    assert found == DOCUMENTS["hi"]
    assert write_catalogue(tmp_path, ROWS, 10, documents=DOCUMENTS, bytes_per_shard=1000) == digest


def test_a_language_without_shards_is_named(tmp_path: Path) -> None:
    write_catalogue(tmp_path, ROWS)
    manifest = read_manifest(tmp_path)
    with pytest.raises(DataError, match="no shard of 'ml'; it has hi, ta"):
        shards_of(manifest, "ml")
    with pytest.raises(DataError, match="no shard of 'pretrain-hi'; it has none"):
        shards_of(manifest, "hi", pretrain=True)
    with pytest.raises(DataError, match="without rows"):
        write_catalogue(tmp_path, {"hi": []})


def test_deal_is_deterministic_and_even() -> None:
    names = [f"hi-{i:03d}.jsonl" for i in range(7)]
    # Fixed: every machine must deal the same, whatever its Python or its order of names.
    assert deal("peer", 3, names) == deal("peer", 3, names[::-1])
    assert [deal("peer", r, ["a", "b", "c"]) for r in range(6)] == DEALT
    for peer in ("a", "b"):
        for cycle in range(5):
            turn = [deal(peer, cycle * 7 + r, names) for r in range(7)]
            assert sorted(turn) == names
    per_round = Counter(deal(f"peer{i}", 4, names) for i in range(7_000))
    # Binomial with mean 1000 and standard deviation 29.
    assert set(per_round) == set(names) and all(abs(n - 1000) < 150 for n in per_round.values())
    with pytest.raises(DataError, match="no shard to deal"):
        deal("peer", 0, [])


DEALT = ["b", "c", "a", "a", "b", "c"]
GOOD = {"instruction": "q", "input": "", "output": "एक", "language": "hi"}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ({**GOOD, "extra": 1}, "keys"),
        ({"output": "एक", "language": "hi"}, "keys"),
        ({**GOOD, "language": "ta"}, "a row in 'ta'"),
        ({**GOOD, "output": ""}, "empty"),
        ({**GOOD, "input": None}, "NoneType"),
        ({**GOOD, "output": "a" * 300_000}, "too large"),
        (None, "NoneType, not a table"),
    ],
)
def test_a_bad_shard_is_refused(tmp_path: Path, line: Any, what: str) -> None:
    path = tmp_path / "hi-000.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"line 2: .*{what}"):
        read_shard(path)


def test_a_file_that_is_no_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hi.jsonl").write_text(json.dumps(GOOD))
    with pytest.raises(DataError, match="no shard"):
        read_shard(tmp_path / "hi.jsonl")
    with pytest.raises(SeshuError, match="cannot use"):
        read_shard(tmp_path / "hi-000.jsonl")
    with (tmp_path / "hi-001.jsonl").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match="at most"):
        read_shard(tmp_path / "hi-001.jsonl")
