"""A proof decodes to its text, has the size of the score, and says so when it does not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seshu_swarm.errors import DataError, UsageError
from seshu_swarm.evaluate.models.ours import OurModel
from seshu_swarm.evaluate.models.scoring import Cut, text_nats
from seshu_swarm.evaluate.proving.coding import Coder, Decoder
from seshu_swarm.evaluate.proving.proof_file import Facts, ProofFile
from seshu_swarm.evaluate.proving.proving import Proof, bits_with_ends, decode, encode
from seshu_swarm.evaluate.proving.walking import ROWS, Bounds, Ids, Place, walk
from seshu_swarm.evaluate.texts import Texts, read_texts
from tests.evaluate.nano import text, write_folder, write_model
from tests.evaluate.test_evaluate_command import evaluate

CUT = Cut(40, 16)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OurModel:
    return OurModel.open(write_model(tmp_path_factory.mktemp("proving") / "nano"), "nano")


@pytest.fixture(scope="module")
def texts() -> Texts:
    """More texts than walk at once, of many lengths; one is empty, one ends with its window."""
    hindi = [text("नमस्ते " * (n % 7) + "क" * n, name=f"{n}") for n in range(ROWS + 3)]
    return {"hi": hindi, "ta": [text("a" * 80, name="t", language="ta")]}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_coder_gives_back_what_it_was_given_at_its_price(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(384, 0.02), size=(50, 7))
    symbols = np.array([[rng.choice(384, p=row) for row in step] for step in probabilities])
    coder = Coder(384)
    for step in range(50):
        coder.push(symbols[step], probabilities[step])
    data = coder.finish()
    decoder = Decoder(data, 384)
    found = np.array([decoder.pull(probabilities[step]) for step in range(50)])
    np.testing.assert_array_equal(found, symbols)
    price = -np.log2(np.take_along_axis(probabilities, symbols[..., None], -1)).sum()
    assert 8 * len(data) == pytest.approx(price, abs=70)


def test_what_was_impossible_can_be_coded_too() -> None:
    certain = np.eye(384)[[5]]
    coder = Coder(384)
    coder.push(np.array([7]), certain)
    assert Decoder(coder.finish(), 384).pull(certain)[0] == 7


def test_a_vocabulary_beyond_24_bits_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 65536"):
        Coder(70_000)


def test_the_walk_sees_the_probabilities_of_the_score(model: OurModel, texts: Texts) -> None:
    flat = [one for found in texts.values() for one in found]
    ids = [model.encode(one.text) for one in flat]
    nats = np.zeros(len(flat))

    def choose(probabilities: NDArray[np.float64], places: Sequence[Place]) -> Ids:
        chosen = np.array([[*ids[text], 1][position] for text, position in places])
        nats[[text for text, _ in places]] -= np.log(probabilities[np.arange(len(places)), chosen])
        return chosen

    assert walk(model.whole, len(flat), choose, bounds=Bounds(1, 1), cut=CUT) == ids
    np.testing.assert_allclose(nats, text_nats(model, flat, CUT, after=(1,)), rtol=1e-5)


def test_the_score_with_ends_is_of_one_more_id(model: OurModel) -> None:
    """By one forward pass over a text that fits a window."""
    one = text("नमस्ते")
    ids = [1, *model.encode(one.text), 1]
    logits = model.logits(torch.tensor([ids[:-1]])).double().log_softmax(-1)[0]
    expected = -sum(float(logits[at, token]) for at, token in enumerate(ids[1:])) / math.log(2)
    assert bits_with_ends(model, {"hi": [one]}, Cut()) == pytest.approx(expected, rel=1e-6)


def test_texts_come_back_at_the_price_of_their_score(model: OurModel, texts: Texts) -> None:
    proof = ProofFile.from_bytes(encode(model, texts, CUT).to_bytes())
    found = [(one.language, one.text) for one in decode(model, proof)]
    assert found == [(k, one.text) for k, group in texts.items() for one in group]
    assert 8 * len(proof.coded) == pytest.approx(bits_with_ends(model, texts, CUT), rel=0.005)


def test_a_model_without_an_end_of_texts_is_refused(model: OurModel, texts: Texts) -> None:
    endless = OurModel("endless", model.whole)
    endless.end_id = None
    with pytest.raises(UsageError, match="names no end of texts"):
        encode(endless, texts, CUT)


def test_a_proof_that_never_ends_is_left(model: OurModel, texts: Texts) -> None:
    """Who changes the file could otherwise make decoding last for ever."""
    proof = encode(model, texts, CUT)
    fewer = dataclasses.replace(proof.facts, num_tokens=proof.facts.num_tokens - 1)
    with pytest.raises(DataError, match="not what was coded"):
        decode(model, dataclasses.replace(proof, facts=fewer))


def test_another_model_is_refused(model: OurModel, texts: Texts, tmp_path: Path) -> None:
    other = OurModel.open(write_model(tmp_path / "other", seed=1), "other")
    with pytest.raises(DataError, match="coded with weights"):
        decode(other, encode(model, texts, CUT))


def test_a_changed_bit_is_seen(model: OurModel, texts: Texts) -> None:
    proof = encode(model, texts, CUT)
    middle = len(proof.coded) // 2
    coded = bytearray(proof.coded)
    coded[middle] ^= 1
    with pytest.raises(DataError, match="decoded"):
        decode(model, dataclasses.replace(proof, coded=bytes(coded)))


FACTS = Facts(b"w" * 16, b"t" * 16, 1 << 20, 512, 256, 2, (("hi", 2), ("ta", 1)))
WHOLE = ProofFile(FACTS, b"12345678").to_bytes()


def test_the_file_is_read_as_it_was_written() -> None:
    assert ProofFile.from_bytes(WHOLE) == ProofFile(FACTS, b"12345678")
    assert len(WHOLE) < 100


@pytest.mark.parametrize("end", [0, 5, 16, 40, len(WHOLE) - 1])
def test_a_short_file_is_refused(end: int) -> None:
    with pytest.raises(DataError, match="no proof"):
        ProofFile.from_bytes(WHOLE[:end])


@pytest.mark.parametrize(
    "data",
    [
        WHOLE + b"x",
        ProofFile(dataclasses.replace(FACTS, weights=b"short"), b"").to_bytes(),
        ProofFile(dataclasses.replace(FACTS, window_tokens=0), b"").to_bytes(),
        ProofFile(dataclasses.replace(FACTS, num_tokens=-1), b"").to_bytes(),
    ],
)
def test_a_file_that_nobody_wrote_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="no proof"):
        ProofFile.from_bytes(data)


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        ProofFile.from_bytes(WHOLE[:14] + data)


@pytest.mark.parametrize(("coded", "holds"), [(1000, True), (1005, True), (1017, False)])
def test_when_a_proof_holds(coded: int, holds: bool) -> None:
    assert Proof(2000, coded, 7000.0, 8000.0, 500).holds is holds
    assert Proof(2000, 100 * coded, 7000.0, 800_000.0, 500).holds is (coded <= 1005)


def test_the_command_proves_and_decodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "nano")
    write_folder(tmp_path / "data", documents=2)
    assert evaluate("nano", "--data", "data", "--floors", "none", "--prove") == 0
    assert "decoded byte for byte in a fresh process" in capsys.readouterr().out
    assert evaluate("nano", "--decode", "proof.seshu", "--out", "back.jsonl") == 0
    assert [
        [one.text for one in found] for found in read_texts(tmp_path / "back.jsonl").values()
    ] == [[one.text for one in found] for found in read_texts(tmp_path / "data").values()]
    assert evaluate("nano", "--decode", "back.jsonl") == 20
    assert "this is no proof" in capsys.readouterr().err
