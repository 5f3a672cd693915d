"""Headers and files that claim, or have, far more bytes than an adapter needs."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import psutil
import pytest

from seshu_swarm.adapters.rules import TENSOR_FILE, AdapterRules
from tests.adapters.samples import RULES, lora_config, write_adapter
from tests.attacks.refusing import refused

TEN_GIGABYTES = 10 << 30


@pytest.mark.parametrize("length", [TEN_GIGABYTES, 100 << 20, 2**63, 2**64 - 1])
def test_a_header_that_claims_too_much_is_refused(tmp_path: Path, length: int) -> None:
    write_adapter(tmp_path, struct.pack("<Q", length) + b"{")
    assert refused(tmp_path) == "HEADER_TOO_LARGE"


def test_a_header_that_really_is_that_long_is_refused(tmp_path: Path) -> None:
    text = b"{" + b" " * (100 << 20) + b"}"
    write_adapter(tmp_path, struct.pack("<Q", len(text)) + text)
    assert refused(tmp_path) == "HEADER_TOO_LARGE"


def test_a_file_of_ten_gigabytes_is_not_read(tmp_path: Path) -> None:
    """A sparse one: it takes no room on the disk, and would take ten gigabytes of memory."""
    write_adapter(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    manifest["files"][TENSOR_FILE]["size_bytes"] = TEN_GIGABYTES
    text = json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False)
    (tmp_path / "manifest.json").write_text(text)
    with (tmp_path / TENSOR_FILE).open("r+b") as file:
        file.write(struct.pack("<Q", TEN_GIGABYTES))
        file.truncate(TEN_GIGABYTES)
    before, began = psutil.Process().memory_info().rss, time.monotonic()
    assert refused(tmp_path) == "FILE_TOO_LARGE"
    assert time.monotonic() - began < 1.0
    assert psutil.Process().memory_info().rss - before < 64 << 20


def test_the_cap_is_the_last_byte(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    size_bytes = (tmp_path / TENSOR_FILE).stat().st_size
    assert refused(tmp_path, AdapterRules(max_file_bytes=size_bytes - 1)) == "FILE_TOO_LARGE"


def test_a_configuration_above_its_cap_is_refused(tmp_path: Path) -> None:
    large = lora_config(base_model_name_or_path="x" * RULES.max_config_bytes)
    write_adapter(tmp_path, config=large)
    assert refused(tmp_path) == "FILE_TOO_LARGE"
