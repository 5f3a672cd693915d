"""Planted copies and planted contamination: found, and little else taken for them. The reference is
the exact Jaccard similarity of runs of five words, computed here over all pairs."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from seshu_swarm.data.building.contamination import Holdouts, read_holdouts
from seshu_swarm.data.building.near import signature_of, similarity
from seshu_swarm.data.building.run import build
from seshu_swarm.data.building.signals import plain_words
from seshu_swarm.data.catalogue import read_pretrain_shard
from seshu_swarm.data.decontaminate import clean
from seshu_swarm.data.groups import Item, fields_of
from seshu_swarm.data.overlap import normalise
from seshu_swarm.data.text import Document, Row
from tests.data.building.helpers import (
    books_of,
    document,
    phrases,
    recipe_of,
    sentence,
    source,
    write_jsonl,
    write_recipe,
)


def runs(text: str) -> set[tuple[str, ...]]:
    words = plain_words(text, "hi")
    return {tuple(words[k : k + 5]) for k in range(len(words) - 4)}


def jaccard(first: str, second: str) -> float:
    one, other = runs(first), runs(second)
    return len(one & other) / len(one | other)


def of_50(text: bytes) -> set[bytes]:
    return {text[k : k + 50] for k in range(len(text) - 49)}


def with_other_words(text: str, num_words: int, rng: random.Random) -> str:
    words = text.split(" ")
    for at in rng.sample(range(len(words)), num_words):
        words[at] = sentence(rng, 1).rstrip("।")
    return " ".join(words)


def kept(folder: Path, texts: list[str], more: str = "") -> list[str]:
    write_jsonl(folder / "a.jsonl", [{"text": text} for text in texts])
    build(write_recipe(folder, more + source("a.jsonl")), folder / "out", num_workers=1)
    shards = sorted((folder / "out").glob("pretrain-*.jsonl"))
    return [found.text for shard in shards for found in read_pretrain_shard(shard)]


def test_planted_copies_are_found_and_nothing_else(tmp_path: Path) -> None:
    rng = random.Random(0)
    originals = [document(rng, 20) for _ in range(300)]
    exact = [text.replace("\n", "  ") for text in originals[:100]]
    # One or two words of 240 are others: five to twelve runs of 236.
    near = [with_other_words(text, 1 + k % 2, rng) for k, text in enumerate(originals[100:200])]
    # Half of the text is new: a third of the runs, and no copy.
    halves = [text[: len(text) // 2] + " " + document(rng, 10) for text in originals[200:]]
    assert min(map(jaccard, near, originals[100:200])) > 0.88
    assert max(map(jaccard, halves, originals[200:])) < 0.5
    found = kept(tmp_path, [*originals, *exact, *near, *halves])
    assert set(originals) <= set(found), "the first in the recipe's order stays"
    assert not set(found) & set(exact)
    missed = set(found) & set(near)
    assert len(missed) <= 1, "recall of 0.99"
    assert set(halves) <= set(found), "precision"
    reasons = books_of(tmp_path / "out")["steps"][1]["reasons"]
    assert reasons == {"exact_duplicate": 100, "near_duplicate": 100 - len(missed)}


def test_the_estimate_is_the_exact_similarity() -> None:
    rng = random.Random(1)
    text = document(rng, 12)
    words = plain_words(text, "hi")
    for num_words in (0, 1, 3, 8, 20, 100):
        other = with_other_words(text, num_words, rng)
        first, second = signature_of(words), signature_of(plain_words(other, "hi"))
        estimate = similarity(first["bytes"], second["bytes"][None])[0]
        # Four standard deviations of 96 draws.
        assert abs(estimate - jaccard(text, other)) < 0.2
    assert np.array_equal(signature_of(words), signature_of(list(words)))


def test_copies_of_copies_are_joined_and_the_first_stays(tmp_path: Path) -> None:
    rng = random.Random(2)
    chain = [document(rng, 10)]
    for _ in range(6):
        chain.append(with_other_words(chain[-1], 1, rng))
    assert kept(tmp_path, chain) == [chain[0]]


def test_without_the_steps_everything_stays(tmp_path: Path) -> None:
    text = document(random.Random(3))
    assert kept(tmp_path, [text] * 5, "[duplicates]\nexact = false\nnear = false\n") == [text] * 5


def test_hashes_in_parts_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(4)
    texts = [document(rng, 5) for _ in range(40)]
    texts += [with_other_words(text, 1, rng) for text in texts[:20]] + texts[20:]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    whole = kept(tmp_path / "one", texts)
    monkeypatch.setattr("seshu_swarm.data.building.duplicates.TEXTS_PER_PART", 7)
    assert kept(tmp_path / "two", texts) == whole


def test_planted_contamination_is_found_and_nothing_else() -> None:
    rng = random.Random(5)
    held = [Document(f"h{k}", "hi", document(rng, 6)) for k in range(60)]
    rows = [Row("अनुवाद करें", f"Sentence {k} of the set", sentence(rng, 14), "hi") for k in range(60)]
    precious: list[Item] = [*held, *rows]
    holdouts = Holdouts(precious)
    clean_ones = [document(rng, 6) for _ in range(400)]
    planted = []
    for k in range(100):
        inside = rng.choice(held[k % 60].text.split("\n")) if k % 2 else rows[k % 60].output
        planted.append(f"{document(rng, 2)}\n{inside}\n{document(rng, 2)}")
    batch = [Document(str(k), "hi", text) for k, text in enumerate([*clean_ones, *planted])]
    # Two or three words are 50 bytes: some clean ones share them by chance, and go as they should.
    windows = {w for item in precious for field in fields_of([item]) for w in of_50(field.text)}
    expected = {k for k, one in enumerate(batch) if windows & of_50(normalise(one.text))}
    found = holdouts.taken_from(batch)
    assert set(found) == expected and set(range(400, 500)) <= expected
    assert len(expected) < 110
    for k, left in found.items():
        for item in precious:
            text = item.text if isinstance(item, Document) else item.output
            for part in left:
                assert not set(part.text.split("\n")) & set(text.split("\n")), k


@pytest.mark.parametrize("language", ["hi", "ta", "en"])
def test_the_quick_look_says_what_the_thorough_one_says(language: str) -> None:
    """Every text that `clean` would touch is among the suspects, in batches of any size."""
    texts = phrases(language, 300)
    rng = random.Random(6)
    held = [Document(str(k), language, text) for k, text in enumerate(texts[:40])]
    for text in list(texts[:40]):  # 13 short words, whole short texts, upper case and joiners
        words = text.replace("\n", " ").split()
        texts.append(" ".join(words[3:17]).upper())
        texts.append(f"{rng.choice(texts)} {text[:60]}")
    held += [
        Document("s", language, " ".join("abcdefghijklmnop")),
        Document("t", language, "x" * 40),
    ]
    texts += ["before " + " ".join("abcdefghijklm") + " after", "y " + "x" * 40 + " z", "x" * 30]
    documents = [Document(str(k), language, text) for k, text in enumerate(texts[40:])]
    kept_ones, _ = clean(documents, held)
    left: dict[str, list[str]] = {}
    for item in kept_ones:
        assert isinstance(item, Document)
        left.setdefault(item.id, []).append(item.text)
    touched = {k for k, d in enumerate(documents) if left.get(d.id, []) != [d.text]}
    holdouts = Holdouts(held)
    assert set(holdouts.taken_from(documents)) == touched and len(touched) > 40
    singly = {k for k, one in enumerate(documents) if holdouts.taken_from([one])}
    assert singly == touched


def test_evaluation_sets_of_any_shape_are_held_apart(tmp_path: Path) -> None:
    rng = random.Random(7)
    secret = sentence(rng, 14)
    path = write_jsonl(
        tmp_path / "xcopa.jsonl",
        [{"premise": "छोटा", "choices": ["नहीं", {"b": secret}], "label": 1}],
    )
    text = document(rng, 3)
    found = Holdouts(read_holdouts([path])).taken_from(
        [
            Document("0", "hi", text),
            Document("1", "hi", secret),
            Document("2", "hi", f"{text}\n{secret}"),
        ]
    )
    assert found == {1: [], 2: [Document("2", "hi", text)]}


def test_a_recipe_s_default_is_to_take_copies_out() -> None:
    assert recipe_of().duplicates.exact and recipe_of().duplicates.near
