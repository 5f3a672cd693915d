"""No item and no near copy in two parts; the parts are the same for everyone with the secret."""

import random
import time
from dataclasses import replace
from itertools import combinations

import pytest

from seshu_swarm.data.decontaminate import SENTENCE_END
from seshu_swarm.data.groups import HELD
from seshu_swarm.data.holdout import Holdout
from seshu_swarm.data.phrasebook import build
from seshu_swarm.data.splits import Splits, SplitSizes, split
from seshu_swarm.data.text import Corpus, Document, Row
from seshu_swarm.errors import DataError

SMALL = SplitSizes(
    tuning_rows=10,
    gate_rows=20,
    final_rows=10,
    tuning_documents=6,
    gate_documents=10,
    final_documents=6,
    minimum_rows=4,
    minimum_documents=2,
)


def words(rng: random.Random, num_words: int) -> str:
    """Words that no other text of the test has."""
    return " ".join("".join(rng.choices("कखगघचछजझटठ", k=5)) for _ in range(num_words))


def varied(num_rows: int = 200, num_documents: int = 100, seed: int = 0) -> Corpus:
    rng = random.Random(seed)
    rows = [Row("Say", words(rng, 3), words(rng, 4), "hi") for _ in range(num_rows)]
    documents = [
        Document(f"d{i}", "hi", "।\n".join(words(rng, 6) for _ in range(5)))
        for i in range(num_documents)
    ]
    return Corpus.of(documents, rows)


def texts(item: Row | Document) -> list[str]:
    """The texts compared, reduced independently of the code under test."""
    found = [item.text] if isinstance(item, Document) else [item.input, item.output]
    return [" ".join(t.replace("\u200c", "").replace("\u200d", "").lower().split()) for t in found]


def parts_of(splits: Splits) -> dict[str, list[Row | Document]]:
    training = Holdout(splits.shards, splits.pretrain)
    held = {name: list(getattr(splits, name).items()) for name in HELD}
    return {"training": list(training.items()), **held}


def windows(item: Row | Document) -> set[bytes]:
    data = [text.encode() for text in texts(item)]
    return {text[i : i + 50] for text in data for i in range(len(text) - 49)}


def assert_disjoint(splits: Splits) -> None:
    parts = parts_of(splits)
    all_windows = {name: set().union(*map(windows, items)) for name, items in parts.items()}
    outputs = {
        name: {texts(item)[-1] for item in items if isinstance(item, Row)}
        for name, items in parts.items()
    }
    for one, other in combinations(parts, 2):
        assert not all_windows[one] & all_windows[other]
        assert not outputs[one] & outputs[other]
        digests = [{item.digest for item in parts[name]} for name in (one, other)]
        assert not digests[0] & digests[1]


def test_parts_have_their_sizes_and_lose_nothing() -> None:
    corpus = varied()
    splits = split(corpus, languages=["hi"], secret=b"s", sizes=SMALL)
    sizes = [len(getattr(splits, name).rows["hi"]) for name in ("tuning", "gate", "final")]
    assert sizes == [10, 20, 10]
    sizes = [len(getattr(splits, name).documents["hi"]) for name in ("tuning", "gate", "final")]
    assert sizes == [6, 10, 6]
    found = {item.digest for items in parts_of(splits).values() for item in items}
    given = {row.digest for row in corpus.rows["hi"]}
    given |= {document.digest for document in corpus.documents["hi"]}
    assert found == given and not splits.num_removed
    assert_disjoint(splits)


def test_the_same_secret_gives_the_same_parts_whatever_the_order() -> None:
    corpus = varied()
    mixed = Corpus(
        {"hi": tuple(reversed(corpus.documents["hi"]))}, {"hi": tuple(reversed(corpus.rows["hi"]))}
    )
    splits = split(corpus, languages=["hi"], secret=b"s", sizes=SMALL)
    assert split(mixed, languages=["hi"], secret=b"s", sizes=SMALL) == splits
    other = split(corpus, languages=["hi"], secret=b"t", sizes=SMALL)
    assert other.gate != splits.gate


@pytest.mark.parametrize("seed", range(8))
def test_planted_near_copies_are_in_one_part(seed: int) -> None:
    rng = random.Random(seed)
    corpus = varied(seed=seed)
    rows, documents = list(corpus.rows["hi"]), list(corpus.documents["hi"])
    planted: list[Row | Document] = []
    for row in rng.sample(rows, 40):
        planted += rng.sample(
            [
                Row("Tell", words(rng, 3), f"  {row.output} ", "hi"),  # the same answer
                Row("Say", row.input, words(rng, 4), "hi"),  # the same question
                Row("Back", row.output, row.input, "hi"),  # the way back
                Row("Say", words(rng, 2), words(rng, 2) + " " + row.output, "hi"),  # contained
                Document("p", "hi", words(rng, 9) + " " + row.output + " " + words(rng, 9)),
                Document("q", "hi", "\u200d".join(row.output) + words(rng, 9)),  # joiners between
            ],
            2,
        )
    for document in rng.sample(documents, 20):
        middle = document.text[40:80]
        planted.append(Document("r", "hi", words(rng, 9) + middle + words(rng, 9)))
        planted.append(Row("Go on", words(rng, 2), middle, "hi"))
    rng.shuffle(planted)
    documents += [item for item in planted if isinstance(item, Document)]
    rows += [item for item in planted if isinstance(item, Row)]
    splits = split(Corpus.of(documents, rows), languages=["hi"], secret=b"s", sizes=SMALL)
    assert_disjoint(splits)
    inputs = {
        name: {texts(item)[0] for item in items if isinstance(item, Row)}
        for name, items in parts_of(splits).items()
    }
    assert all(not inputs[a] & inputs[b] for a, b in combinations(inputs, 2))


def test_a_translation_and_its_way_back_stay_together() -> None:
    rng = random.Random(3)
    pairs = [(words(rng, 1), words(rng, 1)) for _ in range(300)]
    rows = [Row("To", a, b, "hi") for a, b in pairs] + [Row("From", b, a, "hi") for a, b in pairs]
    documents = varied().documents["hi"]
    splits = split(Corpus.of(documents, rows), languages=["hi"], secret=b"s", sizes=SMALL)
    part_of = {
        frozenset(texts(item)): name
        for name, items in parts_of(splits).items()
        for item in items
        if isinstance(item, Row)
    }
    for name, items in parts_of(splits).items():
        for item in items:
            if isinstance(item, Row):
                assert part_of[frozenset(texts(item))] == name


def test_a_training_document_loses_only_the_sentences_that_are_held_out() -> None:
    rng = random.Random(4)
    sentences = [words(rng, 6) + "।" for _ in range(400)]
    rows = [Row("Say", words(rng, 2), sentence, "hi") for sentence in sentences]
    documents = [Document("all", "hi", " ".join(sentences))]
    documents += [Document(f"d{i}", "hi", words(rng, 20)) for i in range(60)]
    splits = split(Corpus.of(documents, rows), languages=["hi"], secret=b"s", sizes=SMALL)
    held = {row.output for name in HELD for row in getattr(splits, name).rows["hi"]}
    left = [s for d in splits.pretrain["hi"] if d.id == "all" for s in SENTENCE_END.split(d.text)]
    assert len(held) == 40 and splits.num_removed["documents", "hi"] == 1
    assert left == [sentence for sentence in sentences if sentence not in held]


def test_answers_that_very_many_rows_have_are_not_held_out() -> None:
    rng = random.Random(5)
    yes = [Row("Is it so?", words(rng, 3), "हाँ", "hi") for _ in range(100)]
    corpus = varied()
    corpus = Corpus.of(corpus.documents["hi"], [*corpus.rows["hi"], *yes])
    splits = split(corpus, languages=["hi"], secret=b"s", sizes=SMALL)
    assert sum(row.output == "हाँ" for row in splits.shards["hi"]) == 100


def test_small_languages_give_less_but_never_too_little() -> None:
    splits = split(varied(50, 40), languages=["hi"], secret=b"s", sizes=SMALL)
    held = [len(getattr(splits, name).rows["hi"]) for name in HELD]
    assert sum(held) <= 20 and min(held) >= 4
    with pytest.raises(DataError, match=r"hi: 29 rows.*need 12.*40%"):
        split(varied(29, 40), languages=["hi"], secret=b"s", sizes=SMALL)
    with pytest.raises(DataError, match=r"ta: 0 rows"):
        split(varied(), languages=["hi", "ta"], secret=b"s", sizes=SMALL)
    none = replace(SMALL, tuning_documents=0, gate_documents=0, final_documents=0)
    rows_only = Corpus.of(varied().documents["hi"][:1], varied().rows["hi"])
    assert split(rows_only, languages=["hi"], secret=b"s", sizes=none).gate.documents["hi"] == ()


def test_text_that_is_all_copies_is_refused_with_the_numbers() -> None:
    one = words(random.Random(6), 10)
    rows = [Row("Say", f"{i}", f"{one} {i}", "hi") for i in range(200)]
    with pytest.raises(DataError, match=r"hi: without near copies the rows are final \d+, gate"):
        split(Corpus.of(varied().documents["hi"], rows), languages=["hi"], secret=b"s", sizes=SMALL)


def test_the_built_in_text_splits_into_disjoint_parts() -> None:
    languages = ["hi", "ta", "en"]
    splits = split(build(languages, 0), languages=languages, secret=b"s")
    assert_disjoint(splits)
    for language in languages:
        assert len(splits.shards[language]) > 800 and len(splits.pretrain[language]) > 200
        assert len(splits.gate.rows[language]) > 300 and len(splits.gate.documents[language]) > 40


def test_a_megabyte_takes_less_than_a_second() -> None:
    rng = random.Random(7)
    vocabulary = [words(rng, 1) for _ in range(20_000)]
    documents = [
        Document(f"d{i}", "hi", " ".join(rng.choices(vocabulary, k=150))) for i in range(2_000)
    ]
    corpus = Corpus.of(documents, varied(2_000).rows["hi"])
    num_bytes = sum(len(document.text.encode()) for document in documents)
    started = time.process_time()
    split(corpus, languages=["hi"], secret=b"s")
    seconds = time.process_time() - started
    assert num_bytes > 4_000_000 and seconds < num_bytes / 1e6
