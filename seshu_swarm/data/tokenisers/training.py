"""BPE and unigram pieces from text, by the `tokenizers` library.

BPE (arXiv:1508.07909) of the same texts in the same order is the same, byte for byte. Unigram
(arXiv:1804.10959) is not: the library sums likelihoods in no fixed order. Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seshu_swarm.data.tokenisers.pieces import SPECIAL_TOKENS, byte_of_character, pre_tokeniser
from seshu_swarm.data.tokenisers.trained import TrainedTokeniser
from seshu_swarm.errors import DataError, UsageError

KINDS = ("bpe", "unigram")
MINIMUM_VOCABULARY = len(SPECIAL_TOKENS) + 256
# In bytes: five letters of an Indic script with their signs would be cut off at the library's 16.
MAX_UNIGRAM_BYTES = 24


def train(kind: str, texts: Iterator[str], vocab_size: int) -> TrainedTokeniser:
    """Pieces of `texts`, at most `vocab_size` of them with the special ones and all bytes.

    Raises UsageError for another kind or a vocabulary without room, DataError without text.
    """
    if kind not in KINDS:
        raise UsageError(f"a tokeniser of kind {kind!r}", rule=f"one of {', '.join(KINDS)}")
    if vocab_size < MINIMUM_VOCABULARY:
        raise UsageError(
            f"a vocabulary of {vocab_size}",
            rule=f"at least {MINIMUM_VOCABULARY}: special tokens and all bytes",
        )
    first = next(texts, None)
    if first is None:
        raise DataError("no text to train a tokeniser on", rule="at least one text")
    pieces, trainer = _new(kind, vocab_size)
    pieces.train_from_iterator(_with(first, texts), trainer)
    return TrainedTokeniser(pieces)


def _with(first: str, texts: Iterator[str]) -> Iterator[str]:
    yield first
    yield from texts


def _new(kind: str, vocab_size: int) -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, trainers

    shared: dict[str, Any] = {
        "vocab_size": vocab_size,
        "special_tokens": list(SPECIAL_TOKENS),
        "initial_alphabet": sorted(byte_of_character()),
        "show_progress": False,
    }
    trainer: Any
    if kind == "bpe":
        pieces, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(**shared)
    else:
        pieces = Tokenizer(models.Unigram())
        unknown = SPECIAL_TOKENS[2]
        trainer = trainers.UnigramTrainer(
            unk_token=unknown, max_piece_length=MAX_UNIGRAM_BYTES, **shared
        )
    pieces.pre_tokenizer = pre_tokeniser()
    pieces.decoder = decoders.ByteLevel()
    return pieces, trainer
