"""Files that end too early, before they were sealed and after."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import safetensors.torch

from seshu_swarm.adapters.rules import TENSOR_FILE
from tests.adapters.samples import lora_tensors, write_adapter
from tests.attacks.refusing import refused

WHOLE: bytes = safetensors.torch.save(lora_tensors())


@pytest.mark.parametrize(
    "data",
    [b"", WHOLE[:7], WHOLE[:100], WHOLE[:-1], struct.pack("<Q", 1000) + b"{}"],
    ids=["nothing", "no length", "in the header", "one byte short", "header behind the end"],
)
def test_a_file_that_was_sealed_cut_is_refused(tmp_path: Path, data: bytes) -> None:
    write_adapter(tmp_path, data)
    assert refused(tmp_path) == "TRUNCATED"


def test_a_file_that_was_cut_after_it_was_sealed_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    path = tmp_path / TENSOR_FILE
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(tmp_path) == "TRUNCATED"
