"""NaN, infinity, and numbers that become one of them: all load in peft without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.attacks.refusing import A0, B0, put, refused_tensors

NAN_A = torch.zeros(2, 8).index_fill(1, torch.tensor([7]), float("nan"))
INF_B = torch.ones(32, 2).index_fill(0, torch.tensor([3]), float("inf"))
HALF_INF = INF_B.half()


@pytest.mark.parametrize(
    ("name", "tensor", "refusal"),
    [
        (A0, NAN_A, "NOT_FINITE"),
        (B0, INF_B, "NOT_FINITE"),
        (B0, -INF_B, "NOT_FINITE"),
        (B0, HALF_INF, "NOT_FINITE"),
        (B0, NAN_A.T.repeat(4, 1).bfloat16(), "NOT_FINITE"),
        (B0, torch.full((32, 2), 1e30), "TOO_STRONG"),
        (B0, torch.full((32, 2), 3e38), "TOO_STRONG"),  # its square overflows float32
    ],
)
def test_what_is_not_finite_is_refused(
    tmp_path: Path, name: str, tensor: torch.Tensor, refusal: str
) -> None:
    assert refused_tensors(tmp_path, put(name, tensor)) == refusal
