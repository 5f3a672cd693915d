"""ΔW multiplied through the configuration, where no tensor shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.adapters.samples import lora_config, write_adapter
from tests.attacks.refusing import accepted, refused

ALPHAS: list[Any] = [1e6, 8.1, float("nan"), float("inf"), -4, 0, True, 10**400, "4", None]


@pytest.mark.parametrize("alpha", ALPHAS, ids=lambda alpha: str(alpha)[:12])
def test_an_alpha_beyond_four_times_the_rank_is_refused(tmp_path: Path, alpha: Any) -> None:
    write_adapter(tmp_path, config=lora_config(r=2, lora_alpha=alpha))
    assert refused(tmp_path) == "BAD_SCALE"


def test_an_alpha_within_the_rule_is_not(tmp_path: Path) -> None:
    write_adapter(tmp_path, config=lora_config(r=2, lora_alpha=8))
    assert accepted(tmp_path)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"alpha_pattern": {"in_proj": 1e5}}, "ALPHA_PATTERN"),
        ({"use_rslora": True}, "RSLORA"),  # alpha over the root of the rank
        ({"use_dora": True}, "DORA"),
        ({"use_dora": 1}, "DORA"),
    ],
)
def test_no_other_way_to_another_scale(tmp_path: Path, change: dict[str, Any], name: str) -> None:
    write_adapter(tmp_path, config=lora_config(**change))
    assert refused(tmp_path) == name
