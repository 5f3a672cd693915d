"""An adapter for another base than the round's: its ΔW means nothing there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seshu_swarm.adapters.reader import read_adapter
from tests.adapters.samples import RULES, SHAPE, write_adapter
from tests.attacks.refusing import refused

NOW, BEFORE = "b" * 64, "a" * 64


@pytest.mark.parametrize("base", [BEFORE, NOW.upper(), NOW[:12], None, 7, [NOW]])
def test_an_adapter_of_another_base_is_refused(tmp_path: Path, base: Any) -> None:
    write_adapter(tmp_path, about={"base_revision": base})
    assert refused(tmp_path, base_revision=NOW) == "STALE_BASE"


def test_one_that_names_no_base_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    assert refused(tmp_path, base_revision=NOW) == "STALE_BASE"


def test_one_of_the_round_s_base_is_read(tmp_path: Path) -> None:
    write_adapter(tmp_path, about={"base_revision": NOW})
    assert read_adapter(tmp_path, shape=SHAPE, rules=RULES, base_revision=NOW).rank == 2
