"""Pickles under other names: made here to show that they are refused, never read."""

from __future__ import annotations

import pickle  # noqa: TID251 - made, never read
import zipfile
from pathlib import Path

import pytest
import torch

from seshu_swarm.adapters.rules import TENSOR_FILE
from tests.adapters.samples import lora_tensors, write_adapter
from tests.attacks.refusing import A0, refused
from tests.attacks.test_path_traversal import add_file


class Bomb:
    """Would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.path),)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_known_by_its_first_bytes(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    write_adapter(tmp_path / "adapter", pickle.dumps(Bomb(mark), protocol=protocol))
    assert refused(tmp_path / "adapter") == "PICKLE"
    assert not mark.exists()


def test_the_oldest_pickles_are_no_header_either(tmp_path: Path) -> None:
    write_adapter(tmp_path, pickle.dumps({A0: [0.0] * 16}, protocol=0))
    assert refused(tmp_path) in ("HEADER_TOO_LARGE", "TRUNCATED")


def test_torch_save_named_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    torch.save(lora_tensors(), path)
    assert zipfile.is_zipfile(path)
    write_adapter(tmp_path / "adapter", path.read_bytes())
    assert refused(tmp_path / "adapter") == "PICKLE"


@pytest.mark.parametrize("name", ["adapter_model.bin", "modeling.py", "training_args.bin"])
def test_a_file_beside_the_tensors_is_refused(tmp_path: Path, name: str) -> None:
    write_adapter(tmp_path)
    add_file(tmp_path, name)
    assert (tmp_path / TENSOR_FILE).exists() and refused(tmp_path) == "EXTRA_FILE"
