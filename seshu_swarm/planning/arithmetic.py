"""The formulas of a plan, each with its source. Pure.

Symbols: N parameters, D tokens (bytes here), C floating-point operations of the whole training.
"""

from __future__ import annotations

import math

# float32 weights, gradients and both moments of AdamW; activations come on top.
TRAINING_BYTES_PER_PARAMETER = 16
# The highest peak rate that this repository has trained with (the base of a fresh run).
MAX_LEARNING_RATE = 4e-3
SECONDS_PER_HOUR = 3_600.0


def training_flops(num_parameters: float, num_tokens: float) -> float:
    """C = 6 N D: two operations for a weight and token forward, four backward.

    Kaplan et al. 2020 (arXiv:2001.08361, section 2.1), where N is without embeddings; here the
    head is the embedding and is multiplied, so all N count. The scan is left out, some per cent of
    it from d_model 768 on: a measured rate pays for it, a stated MFU must allow for it.
    """
    return 6.0 * num_parameters * num_tokens


def best_parameters(flops: float, tokens_per_parameter: float) -> float:
    """N = √(C / 6r): the size whose D = r N tokens use up C.

    r = 20 is Hoffmann et al. 2022 (Chinchilla, arXiv:2203.15556, section 3), for subwords; the
    Mamba paper scales with the same r (arXiv:2312.00752, table 12). A subword is about four bytes
    of English, so a byte model trained on the text of r = 20 subwords has seen 80 bytes for each
    parameter: nobody has published the best r for bytes.
    """
    return math.sqrt(flops / (6.0 * tokens_per_parameter))


def affordable_tokens(flops: float, num_parameters: float) -> float:
    """D = C / 6 N."""
    return flops / (6.0 * num_parameters)


def needed_flops(num_parameters: float, tokens_per_parameter: float) -> float:
    """C = 6 N · r N."""
    return training_flops(num_parameters, tokens_per_parameter * num_parameters)


def learning_rate(flops: float) -> float:
    """Peak rate 0.3118 · C^-0.125, and never above what was tried here.

    DeepSeek LLM (arXiv:2401.02954, equation 1), fitted from 1e17 to 2e19 operations. At the
    sizes of the Mamba paper (table 12) it gives 8.9e-4 for 1.3b where the paper took 1e-3, and
    1.6e-3 for 125m where it took 3e-3.
    """
    return min(MAX_LEARNING_RATE, 0.3118 * math.pow(flops, -0.125))


def batch_tokens(flops: float, *, length: int) -> int:
    """Tokens of a step, 0.2920 · C^0.3271, as whole sequences of `length`, one at least.

    DeepSeek LLM (arXiv:2401.02954, equation 1), in subwords; a byte says less, so this is on the
    small side, which costs speed and not loss.
    """
    return length * max(1, round(0.2920 * math.pow(flops, 0.3271) / length))


def training_bytes(num_parameters: int) -> int:
    """Memory of weights, gradients and optimiser, in bytes; activations not counted."""
    return TRAINING_BYTES_PER_PARAMETER * num_parameters
