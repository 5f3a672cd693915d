"""What is timed: a model of random weights on the built-in text.

What the weights are changes no time; of a proof they change what a byte costs, so the error of its
size is told in bytes too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seshu_swarm.bench.engine.measuring import best_of
from seshu_swarm.data import phrasebook
from seshu_swarm.evaluate.evaluation import model_column
from seshu_swarm.evaluate.models.ours import OurModel
from seshu_swarm.evaluate.models.scoring import Cut, text_nats
from seshu_swarm.evaluate.proving.proof_file import ProofFile
from seshu_swarm.evaluate.proving.proving import Proof, bits_with_ends, decode, encode
from seshu_swarm.evaluate.texts import Text, Texts
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

LANGUAGES = ("hi", "ta", "bn")
CUT = Cut()


@dataclass(frozen=True)
class Rates:
    """Seconds of scoring all texts, and of only the forwards of its batches (`num_tokens` with
    padding); `num_bytes` are scored."""

    scoring_seconds: float
    forward_seconds: float
    num_tokens: int
    num_bytes: int

    @property
    def share_of_forward(self) -> float:
        return self.forward_seconds / self.scoring_seconds


@dataclass(frozen=True)
class Proven:
    """`is_equal`: what was decoded, in this process, is what was coded."""

    proof: Proof
    encode_seconds: float
    decode_seconds: float
    is_equal: bool


def random_model(shape: MambaShape, *, seed: int) -> OurModel:
    torch.manual_seed(seed)
    return OurModel("random", WholeModel(shape).eval().requires_grad_(False))


def built_in_texts(documents_per_language: int, *, seed: int) -> Texts:
    found = phrasebook.build(LANGUAGES, seed, documents_per_language=documents_per_language)
    return {
        language: [Text(d.id, language, "", d.text, d.digest) for d in found.documents[language]]
        for language in sorted(LANGUAGES)
    }


class Watched:
    """A model that remembers the ids of each forward."""

    def __init__(self, model: OurModel) -> None:
        self._model, self.batches = model, list[Tensor]()
        self.name, self.vocab_size, self.end_id = model.name, model.vocab_size, model.end_id
        self.max_tokens, self.greedy = model.max_tokens, model.greedy
        self.before, self.encode, self.decode = model.before, model.encode, model.decode

    def logits(self, ids_BL: Tensor) -> Tensor:
        self.batches.append(ids_BL)
        return self._model.logits(ids_BL)


def measure_rates(model: OurModel, texts: Texts, *, seconds: float) -> Rates:
    """Scoring and its bare forwards take turns; the best of each counts."""
    flat = [text for found in texts.values() for text in found]
    watched = Watched(model)
    text_nats(watched, flat, CUT)
    calls = {
        "scoring": lambda: text_nats(model, flat, CUT),
        "forward": lambda: _forwards(model, watched.batches),
    }
    best = best_of(calls, seconds=seconds)
    return Rates(
        scoring_seconds=best["scoring"].seconds,
        forward_seconds=best["forward"].seconds,
        num_tokens=sum(ids_BL.numel() for ids_BL in watched.batches),
        num_bytes=sum(text.num_bytes for text in flat),
    )


def measure_proof(model: OurModel, texts: Texts) -> Proven:
    """Code the texts, decode them, and hold the size against the score."""
    column, _ = model_column(model, texts, cut=CUT, on_column=lambda name, language: None)
    start = time.perf_counter()
    data = encode(model, texts, CUT).to_bytes()
    middle = time.perf_counter()
    file = ProofFile.from_bytes(data)
    decoded = [document.text for document in decode(model, file)]
    end = time.perf_counter()
    flat = [text for found in texts.values() for text in found]
    size = sum(text.num_bytes for text in flat)
    return Proven(
        proof=Proof(
            file_bytes=len(data),
            coded_bytes=len(file.coded),
            text_bits=sum(column.bits.values()),
            scored_bits=bits_with_ends(model, texts, CUT),
            num_bytes=size,
        ),
        encode_seconds=middle - start,
        decode_seconds=end - middle,
        is_equal=decoded == [text.text for text in flat],
    )


def _forwards(model: OurModel, batches: Sequence[Tensor]) -> None:
    for ids_BL in batches:
        model.logits(ids_BL)
