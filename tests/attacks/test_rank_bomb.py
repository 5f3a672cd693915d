"""A rank that takes the coordinator's memory, in the configuration or in the tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm.adapters.rules import AdapterRules
from tests.adapters.samples import lora_config, lora_tensors, write_adapter
from tests.attacks.refusing import A0, accepted, put, refused, refused_tensors


@pytest.mark.parametrize(
    ("rank", "name"),
    [
        (65, "RANK_TOO_LARGE"),
        (10**9, "RANK_TOO_LARGE"),
        (10**400, "RANK_TOO_LARGE"),
        (0, "BAD_CONFIG"),
        (-1, "BAD_CONFIG"),
        (True, "BAD_CONFIG"),
        (3, "RANK_MISMATCH"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_claimed_rank_is_refused(tmp_path: Path, rank: Any, name: str) -> None:
    write_adapter(tmp_path, config=lora_config(r=rank))
    assert refused(tmp_path) == name


def test_tensors_that_agree_with_the_claim_do_not_help(tmp_path: Path) -> None:
    write_adapter(tmp_path, lora_tensors(rank=65), config=lora_config(r=65, lora_alpha=65))
    assert refused(tmp_path) == "RANK_TOO_LARGE"
    write_adapter(tmp_path, lora_tensors(rank=64), config=lora_config(r=64, lora_alpha=64))
    assert accepted(tmp_path)


def test_a_run_may_allow_less(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    assert refused(tmp_path, AdapterRules(max_rank=1)) == "RANK_TOO_LARGE"


def test_another_rank_in_one_module_is_refused(tmp_path: Path) -> None:
    assert refused_tensors(tmp_path, put(A0, torch.ones(64, 8))) == "RANK_MISMATCH"
    write_adapter(tmp_path, config=lora_config(rank_pattern={"in_proj": 4}))
    assert refused(tmp_path) == "RANK_PATTERN"
