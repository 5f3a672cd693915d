"""Floors: the n-gram against its formula in dictionaries, packers against files."""

from __future__ import annotations

import lzma
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from seshu_swarm.errors import UsageError
from seshu_swarm.evaluate.floors.ngram import ngram_nats
from seshu_swarm.evaluate.floors.packers import packed_bits

TRAIN = ["नमस्ते दुनिया".encode(), b"abcabc"]
TEXTS = ["नमस्ते राम, नमस्ते".encode(), b"", b"abracadabra abracadabra", b"\x00\xff\x00"]


def by_dictionaries(train: Sequence[bytes], texts: Sequence[bytes], order: int) -> list[float]:
    """Witten and Bell's estimate, one byte at a time, learning after each."""
    counts: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    nats = []
    for data in [*train, *texts]:
        symbols, total = [256] * (order - 1) + list(data), 0.0
        for place in range(order - 1, len(symbols)):
            contexts = [tuple(symbols[place - k : place]) for k in range(order)]
            estimate = 1 / 256
            for context in contexts:
                seen = counts[context]
                if seen:
                    estimate = (seen[symbols[place]] + len(seen) * estimate) / (
                        seen.total() + len(seen)
                    )
            total -= math.log(estimate)
            for context in contexts:
                counts[context][symbols[place]] += 1
        nats.append(total)
    return nats[len(train) :]


@pytest.mark.parametrize("order", [1, 2, 5, 9])
@pytest.mark.parametrize("train", [[], TRAIN])
def test_the_ngram_equals_its_formula(train: list[bytes], order: int) -> None:
    expected = by_dictionaries(train, TEXTS, order)
    np.testing.assert_allclose(ngram_nats(train, TEXTS, order=order), expected, rtol=1e-12)


def test_its_guesses_are_a_distribution() -> None:
    last = [ngram_nats(TRAIN, [bytes([*b"abca", byte])])[0] for byte in range(256)]
    before = ngram_nats(TRAIN, [b"abca"])[0]
    assert sum(math.exp(before - nats) for nats in last) == pytest.approx(1)


@pytest.mark.parametrize("name", ["ppmd", "xz"])
def test_packers_learn_from_what_they_have_read(name: str) -> None:
    texts = [bytes(range(65, 91)) * 4, b"0123456789" * 5]
    cold, warm = packed_bits(name, [], texts), packed_bits(name, texts, texts)
    assert warm < cold / 3
    assert packed_bits(name, [b"others " * 9], texts) > warm


def test_xz_is_the_size_of_its_file() -> None:
    file = lzma.compress(b"".join(TEXTS), preset=9 | lzma.PRESET_EXTREME)
    assert packed_bits("xz", [], TEXTS) == 8 * len(file)


def test_an_unknown_packer_is_named() -> None:
    with pytest.raises(UsageError, match="no compressor 'zip'"):
        packed_bits("zip", [], TEXTS)
