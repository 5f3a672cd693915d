"""Two models on the same windows: the difference in bits per byte, and how sure it is.

The unit that is resampled is the document, since windows of one document are alike. The draws
depend on the number of documents and the seed alone, so all candidates meet the same ones.
Negative differences are better: candidate minus current.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.errors import UsageError

NUM_DRAWS = 2000
LN2 = math.log(2)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Candidate minus current on one language; `low`, `high` bound the middle 95 % of draws.

    `sign_test_p` is one-sided: how likely this many documents improve where nothing has changed.
    """

    delta_bits_per_byte: float
    standard_error: float
    low: float
    high: float
    num_windows: int
    num_documents: int
    sign_test_p: float


def compare(
    candidate_nats: Floats,
    current_nats: Floats,
    *,
    num_bytes: Sequence[int],
    documents: Sequence[str],
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> Comparison:
    """Paired bootstrap clustered by document; all arguments have one entry per window."""
    sizes = {len(candidate_nats), len(current_nats), len(num_bytes), len(documents)}
    if sizes == {0} or len(sizes) != 1:
        raise UsageError(f"window counts {sorted(sizes)}", rule="the same windows for both models")
    difference_D, bytes_D = _by_document(
        np.asarray(candidate_nats) - np.asarray(current_nats), num_bytes, documents
    )
    counts_RD = _draws(len(bytes_D), num_draws, seed)
    draws_R = (counts_RD @ difference_D) / (LN2 * (counts_RD @ bytes_D))
    low, high = np.quantile(draws_R, (0.025, 0.975))
    return Comparison(
        delta_bits_per_byte=float(difference_D.sum() / (LN2 * bytes_D.sum())),
        standard_error=float(draws_R.std(ddof=1)),
        low=float(low),
        high=float(high),
        num_windows=len(documents),
        num_documents=len(bytes_D),
        sign_test_p=sign_test(difference_D),
    )


def sign_test(differences: Floats) -> float:
    """One-sided exact sign test that most differences are negative; ties are left out."""
    num_better = int((differences < 0).sum())
    num_decided = num_better + int((differences > 0).sum())
    tail = sum(math.comb(num_decided, k) for k in range(num_better, num_decided + 1))
    # Through Fraction: 2**1100 does not fit a float, the quotient does.
    return float(Fraction(tail, 2**num_decided))


def alpha_of_test(index: int, alpha: float = 0.05) -> float:
    """Level of the k-th reading (from 1) of a held-out set: 6α / (π²k²), which sums to α."""
    if index < 1:
        raise UsageError(f"test index {index}", rule="readings are counted from 1")
    return 6 * alpha / (math.pi**2 * index**2)


def z_of(alpha: float) -> float:
    """One-sided normal quantile: P(Z > z) = alpha."""
    return statistics.NormalDist().inv_cdf(1 - alpha)


def smallest_detectable_gain(standard_error: float, *, alpha: float, power: float = 0.8) -> float:
    """The true gain in bits per byte that a one-sided test finds with this power."""
    return (z_of(alpha) + z_of(1 - power)) * standard_error


def _by_document(
    difference: Floats, num_bytes: Sequence[int], documents: Sequence[str]
) -> tuple[Floats, Floats]:
    """Sums per document, in the order of the documents' names."""
    names, index = np.unique(np.asarray(documents), return_inverse=True)
    sums_2D = np.zeros((2, len(names)))
    np.add.at(sums_2D[0], index, difference)
    np.add.at(sums_2D[1], index, np.asarray(num_bytes, dtype=np.float64))
    return sums_2D[0], sums_2D[1]


@functools.lru_cache(maxsize=8)
def _draws(num_documents: int, num_draws: int, seed: int) -> Floats:
    """How often each document is drawn; shape (draws R, documents D), rows sum to D."""
    rng = np.random.default_rng((seed, num_documents))
    shares = np.full(num_documents, 1 / num_documents)
    return rng.multinomial(num_documents, shares, size=num_draws).astype(np.float64)
