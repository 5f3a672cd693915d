"""Bytes that are not those that were announced, or not those that were sealed."""

from __future__ import annotations

from pathlib import Path

import pytest

from seshu_swarm.adapters.rules import CONFIG_FILE, TENSOR_FILE
from tests.adapters.samples import lora_tensors, write_adapter
from tests.attacks.refusing import refused


def test_another_package_than_the_announced_one_is_refused(tmp_path: Path) -> None:
    announced = write_adapter(tmp_path, lora_tensors(seed=0))
    write_adapter(tmp_path, lora_tensors(seed=1))
    assert refused(tmp_path, digest=announced) == "DIGEST_MISMATCH"


@pytest.mark.parametrize("name", [TENSOR_FILE, CONFIG_FILE])
def test_a_byte_changed_after_sealing_is_refused(tmp_path: Path, name: str) -> None:
    digest = write_adapter(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[-2] ^= 1
    (tmp_path / name).write_bytes(data)
    assert refused(tmp_path, digest=digest) == "DIGEST_MISMATCH"


def test_a_manifest_without_files_pins_nothing(tmp_path: Path) -> None:
    assert refused(tmp_path) == "BAD_MANIFEST"
