"""The commitment can be recomputed by anyone after the reveal, and by nobody before it."""

import hashlib
from pathlib import Path

import pytest

from seshu_swarm.data.holdout import Holdout, commitment, read_holdout, write_holdout
from seshu_swarm.data.text import Document, Row
from seshu_swarm.errors import DataError, UsageError

SALT = bytes(range(16))
ROWS = (Row("q", "", "एक", "hi"), Row("q", "x", "दो\nतीन", "hi"))
HOLDOUT = Holdout({"hi": ROWS, "ta": ()}, {"hi": (Document("d", "hi", "पाठ"),)})


def test_the_commitment_is_the_hash_of_salt_and_sorted_digests() -> None:
    digests = sorted(item.digest for item in (*ROWS, HOLDOUT.documents["hi"][0]))
    expected = hashlib.sha256("\n".join([SALT.hex(), *digests]).encode()).hexdigest()
    assert commitment(HOLDOUT, SALT) == expected


def test_it_depends_on_salt_and_every_item_but_not_on_order() -> None:
    known = commitment(HOLDOUT, SALT)
    turned = Holdout({"hi": ROWS[::-1]}, HOLDOUT.documents)
    assert commitment(turned, SALT) == known
    assert commitment(HOLDOUT, SALT[::-1]) != known
    assert commitment(Holdout({"hi": ROWS[:1]}, HOLDOUT.documents), SALT) != known
    assert commitment(Holdout({"hi": ROWS}, {}), SALT) != known
    with pytest.raises(UsageError, match="a salt of 3 bytes"):
        commitment(HOLDOUT, b"abc")


def test_the_revealed_file_gives_the_same_commitment(tmp_path: Path) -> None:
    write_holdout(tmp_path / "gate.jsonl", HOLDOUT)
    found = read_holdout(tmp_path / "gate.jsonl")
    assert found.rows["hi"] == ROWS and found.documents == HOLDOUT.documents
    assert commitment(found, SALT) == commitment(HOLDOUT, SALT)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gate.jsonl"
    path.write_text('{"text": "a", "output": "b"}\n')
    with pytest.raises(DataError, match=r"gate.jsonl line 1: both a row and a document"):
        read_holdout(path)
