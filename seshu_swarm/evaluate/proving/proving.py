"""Code texts with a model, decode them, and hold the size against the score."""

from __future__ import annotations

import hashlib
import logging
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from seshu_swarm.data.jsonl import document_line, document_of, read_items
from seshu_swarm.data.text import Document
from seshu_swarm.errors import DataError, MismatchError, UsageError, from_os_error
from seshu_swarm.evaluate.models.ours import OurModel
from seshu_swarm.evaluate.models.scoring import Cut, text_nats
from seshu_swarm.evaluate.proving.coding import Coder, Decoder
from seshu_swarm.evaluate.proving.proof_file import DIGEST_BYTES, Facts, ProofFile
from seshu_swarm.evaluate.proving.walking import ROWS, Bounds, Ids, Place, walk
from seshu_swarm.evaluate.texts import Texts
from seshu_swarm.packages import write_whole

logger = logging.getLogger(__name__)

TOLERANCE = 0.005
CODER_END_BYTES = 16  # the coder's last words, which matter only beside very little text


@dataclass(frozen=True)
class Proof:
    """`file_bytes` are `coded_bytes` and a few facts; `text_bits` was reported of the texts alone,
    `scored_bits` is the score with their ends, by forward passes too."""

    file_bytes: int
    coded_bytes: int
    text_bits: float
    scored_bits: float
    num_bytes: int

    @property
    def relative_error(self) -> float:
        """Of the coded text's size against the score."""
        return 8 * self.coded_bytes / self.scored_bits - 1

    @property
    def file_error(self) -> float:
        """Of the whole file's."""
        return 8 * self.file_bytes / self.scored_bits - 1

    @property
    def holds(self) -> bool:
        off_bytes = abs(self.coded_bytes - self.scored_bits / 8)
        return off_bytes <= max(TOLERANCE * self.scored_bits / 8, CODER_END_BYTES)

    def __str__(self) -> str:
        return (
            f"{self.num_bytes:,} bytes of text in a file of {self.file_bytes:,}, decoded byte for "
            f"byte in a fresh process\n"
            f"score: {self.text_bits / self.num_bytes:.5f} bits per byte, with the ends of texts "
            f"{self.scored_bits / self.num_bytes:.5f}; coded: "
            f"{8 * self.coded_bytes / self.num_bytes:.5f} ({self.relative_error:+.3%}); whole file: "
            f"{8 * self.file_bytes / self.num_bytes:.5f} ({self.file_error:+.3%})"
        )


def prove(
    model: OurModel, place: str, texts: Texts, *, text_bits: float, cut: Cut, file: Path
) -> Proof:
    """Write the file, decode it in a fresh process from the model at `place`, and compare.

    Raises MismatchError where bytes differ or the size is not the score's, UsageError for texts that
    the tokeniser cannot give back and for a model without an end of texts.
    """
    proof = encode(model, texts, cut)
    data = proof.to_bytes()
    write_whole(file, data)
    decoded = _decoded_elsewhere(place, file)
    if decoded != _plain(texts):
        raise MismatchError(f"what {file} decodes to is not the text that was scored")
    num_bytes = sum(text.num_bytes for found in texts.values() for text in found)
    scored_bits = bits_with_ends(model, texts, cut)
    found = Proof(len(data), len(proof.coded), text_bits, scored_bits, num_bytes)
    if not found.holds:
        raise MismatchError(
            f"the coded text has {found.coded_bytes} bytes, the score says "
            f"{found.scored_bits / 8:.0f} ({found.relative_error:+.2%})",
            rule=f"within {TOLERANCE:.1%} or {CODER_END_BYTES} bytes",
            way_out="a smaller size comes from ids that the model gives less than 2^-24 of "
            "probability: the coder has no less",
        )
    return found


def bits_with_ends(model: OurModel, texts: Texts, cut: Cut) -> float:
    """The score of all texts, each with the id that ends it. Raises UsageError."""
    after = (bounds_of(model).end_id,)
    nats = sum(text_nats(model, found, cut, after=after).sum() for found in texts.values())
    return float(nats) / math.log(2)


def encode(model: OurModel, texts: Texts, cut: Cut) -> ProofFile:
    """All texts in one file. Raises UsageError."""
    bounds = bounds_of(model)
    ids = [
        [*_ids_of(model, text.text, text.id), bounds.end_id]
        for found in texts.values()
        for text in found
    ]
    coder = Coder(model.vocab_size)

    def choose(probabilities: NDArray[np.float64], places: Sequence[Place]) -> Ids:
        symbols = np.array([ids[text][position] for text, position in places])
        coder.push(symbols, probabilities)
        return symbols

    walk(model.whole, len(ids), choose, bounds=bounds, cut=cut, on_texts=_tell)
    facts = Facts(
        weights=weights_digest(model),
        text=_digest(_plain(texts)),
        num_tokens=sum(map(len, ids)),
        window_tokens=cut.window_tokens,
        context_tokens=cut.context_tokens,
        threads=torch.get_num_threads(),
        languages=tuple((language, len(found)) for language, found in texts.items()),
    )
    return ProofFile(facts, coder.finish())


def decode(model: OurModel, proof: ProofFile) -> list[Document]:
    """The texts, as documents. Raises DataError where the model is another, or the bits are."""
    facts = proof.facts
    if facts.weights != weights_digest(model):
        raise DataError(
            f"this proof was coded with weights {facts.weights.hex()}",
            rule=f"{model.name} has {weights_digest(model).hex()}",
            way_out="decode it with the model that coded it",
        )
    torch.set_num_threads(facts.threads)  # other threads, other sums
    left, decoder = facts.num_tokens, Decoder(proof.coded, model.vocab_size)

    def choose(probabilities: NDArray[np.float64], places: Sequence[Place]) -> Ids:
        nonlocal left
        left -= len(places)
        if left < 0:
            raise _not_what_was_coded()
        return decoder.pull(probabilities)

    found = walk(
        model.whole,
        sum(count for _, count in facts.languages),
        choose,
        bounds=bounds_of(model),
        cut=Cut(facts.window_tokens, facts.context_tokens),
        on_texts=_tell,
    )
    texts = iter(model.decode(ids) for ids in found)
    plain = [(language, next(texts)) for language, count in facts.languages for _ in range(count)]
    if _digest(plain) != facts.text:
        raise _not_what_was_coded()
    return [Document(f"{k}-{place}", k, text) for place, (k, text) in enumerate(plain)]


def decode_file(model: OurModel, file: Path, out: Path) -> int:
    """Write the texts of a proof as JSON lines; how many there were. Raises DataError."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise from_os_error(error, str(file)) from error
    documents = decode(model, ProofFile.from_bytes(data))
    write_whole(out, "".join(map(document_line, documents)).encode("utf-8"))
    return len(documents)


def bounds_of(model: OurModel) -> Bounds:
    """Raises UsageError for a model that knows no end."""
    if model.end_id is None:
        raise UsageError(
            f"a proof with {model.name}, whose tokeniser names no end of texts",
            rule="the end of each text is coded like its other ids",
            way_out="name an eos_token in tokenizer_config.json",
        )
    return Bounds(model.start_id, model.end_id)


def weights_digest(model: OurModel) -> bytes:
    """The first bytes of SHA-256 over all tensors, int8 ones too, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.whole.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.digest()[:DIGEST_BYTES]


def _decoded_elsewhere(place: str, file: Path) -> list[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "decoded.jsonl"
        command = [sys.executable, "-m", "seshu_swarm", "evaluate", place]
        done = subprocess.run(
            [*command, "--decode", str(file), "--out", str(out), "--end-with-parent"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise MismatchError(f"{file} could not be decoded: {done.stderr.strip()[-500:]}")
        documents = read_items(out, document_of, bad_rows="refuse")
    return [(document.language, document.text) for document in documents]


def _tell(done: int, total: int) -> None:
    if done % ROWS == 0 or done == total:
        logger.info("%d of %d texts done", done, total)


def _ids_of(model: OurModel, text: str, name: str) -> list[int]:
    ids = model.encode(text)
    if model.decode(ids) != text:
        raise UsageError(
            f"the tokeniser of {model.name} does not give back {name}",
            rule="what is proven must be decoded byte for byte",
            way_out="leave the text out, or prove a model of bytes",
        )
    return ids


def _not_what_was_coded() -> DataError:
    return DataError(
        "the decoded text is not what was coded",
        rule="decoding needs the same libraries and the same kind of processor",
        way_out="decode where it was coded",
    )


def _plain(texts: Texts) -> list[tuple[str, str]]:
    return [(language, text.text) for language, found in texts.items() for text in found]


def _digest(plain: Sequence[tuple[str, str]]) -> bytes:
    digest = hashlib.sha256()
    for language, text in plain:
        digest.update(f"{language}\0{text}\0".encode())
    return digest.digest()[:DIGEST_BYTES]
