"""Whatever else an adapter's folder can carry that is not as the rules say, refused by its name."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.refusals import AdapterRefusal
from seshu_swarm.adapters.rules import CONFIG_FILE, TENSOR_FILE
from tests.adapters.samples import RULES, SHAPE, key, lora_config, lora_tensors, write_adapter
from tests.attacks.refusing import A0, B0, Tensors, put, refused, refused_tensors

HERE = Path(__file__).parent


def test_the_untouched_sample_is_accepted(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    assert read_adapter(tmp_path, shape=SHAPE, rules=RULES).rank == 2


def zero_factors(factor: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in tensors:
            if f"lora_{factor}" in name:
                tensors[name] = torch.zeros_like(tensors[name])

    return change


def remove(name: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        del tensors[name]

    return change


TENSOR_ATTACKS: list[tuple[str, str, Callable[[Tensors], None]]] = [
    ("wrong shape", "WRONG_SHAPE", put(A0, torch.ones(2, 9))),
    ("transposed", "WRONG_SHAPE", put(A0, torch.ones(8, 2))),
    ("flat", "WRONG_SHAPE", put(A0, torch.ones(16))),
    ("float64", "WRONG_DTYPE", put(A0, torch.ones(2, 8, dtype=torch.float64))),
    ("int64", "WRONG_DTYPE", put(A0, torch.ones(2, 8, dtype=torch.int64))),
    ("missing B", "MISSING_TENSOR", remove(B0)),
    ("missing A", "MISSING_TENSOR", remove(A0)),
    ("untrained", "UNTRAINED", zero_factors("B")),
    ("zero through A", "ZERO_DELTA", zero_factors("A")),
]


@pytest.mark.parametrize(
    ("refusal", "change"), [a[1:] for a in TENSOR_ATTACKS], ids=[a[0] for a in TENSOR_ATTACKS]
)
def test_hostile_tensors(tmp_path: Path, refusal: str, change: Callable[[Tensors], None]) -> None:
    assert refused_tensors(tmp_path, change) == refusal


CONFIG_ATTACKS: list[tuple[str, dict[str, Any]]] = [
    ("BAD_CONFIG", {"peft_type": "LOHA"}),
    ("BAD_CONFIG", {"target_modules": []}),
    ("FORBIDDEN_KEY", {"target_modules": [["in_proj"]]}),
    ("BIAS", {"bias": "all"}),
    ("BIAS", {"lora_bias": True}),
    ("BASE_CHANGING_INIT", {"init_lora_weights": "pissa"}),
    ("BASE_CHANGING_INIT", {"init_lora_weights": "pissa_niter_4"}),
    ("BASE_CHANGING_INIT", {"init_lora_weights": "olora"}),
    ("BASE_CHANGING_INIT", {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}),
    ("BASE_CHANGING_INIT", {"corda_config": {"corda_method": "kpm"}}),
    ("PARTIAL_LAYERS", {"layers_to_transform": [0]}),
    ("PARTIAL_LAYERS", {"layers_to_transform": 0}),
    ("UNSUPPORTED_LORA", {"use_qalora": True}),
    ("UNKNOWN_CONFIG_KEY", {"use_next_years_variant": True}),
]


@pytest.mark.parametrize(("refusal", "change"), CONFIG_ATTACKS)
def test_hostile_config(tmp_path: Path, refusal: str, change: dict[str, Any]) -> None:
    write_adapter(tmp_path, config=lora_config(**change))
    assert refused(tmp_path) == refusal


@pytest.mark.parametrize("text", [b"[]", b"{", b"\xff", b"[" * 60_000, b"9" * 5000])
def test_config_that_is_no_table(tmp_path: Path, text: bytes) -> None:
    write_adapter(tmp_path, config=text)
    assert refused(tmp_path) == "BAD_CONFIG"


def changed_header(change: Callable[[dict[str, Any]], None], *, after: bytes = b"") -> bytes:
    """The sample's file with a changed header."""
    data: bytes = safetensors.torch.save(lora_tensors())
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :] + after


def set_entry(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[A0].update(values)


def overlap(header: dict[str, Any]) -> None:
    other = next(n for n, entry in header.items() if entry["data_offsets"][0] == 0)
    header[A0]["data_offsets"] = [0, 64] if other != A0 else header[A0]["data_offsets"]
    header[key(1, "in_proj", "A")]["data_offsets"] = [0, 64]


HEADER_ATTACKS: list[tuple[str, bytes]] = [
    ("OVERLAPPING_TENSORS", changed_header(overlap)),
    ("BAD_HEADER", changed_header(set_entry(data_offsets=[0, 1 << 40]))),
    ("BAD_HEADER", changed_header(set_entry(data_offsets=[64, 0]))),
    ("BAD_HEADER", changed_header(set_entry(data_offsets=[-64, 0]))),
    ("BAD_HEADER", changed_header(set_entry(data_offsets=[0.0, 64.0]))),
    ("BAD_HEADER", changed_header(set_entry(shape=[1 << 40, 1 << 40]))),
    ("BAD_HEADER", changed_header(set_entry(shape=[2, 8, 1, 1, 1]))),
    ("BAD_HEADER", changed_header(set_entry(shape="2,8"))),
    ("BAD_HEADER", changed_header(set_entry(more=1))),
    ("BAD_HEADER", changed_header(lambda header: header.update(__metadata__={"a": 1}))),
    ("BAD_HEADER", changed_header(lambda header: header.update({A0: None}))),
    ("BAD_HEADER", changed_header(lambda header: None, after=b"smuggled")),
    ("WRONG_DTYPE", changed_header(set_entry(dtype="F8_E4M3"))),
    ("WRONG_DTYPE", changed_header(set_entry(dtype=["F32"]))),
    ("BAD_HEADER", struct.pack("<Q", 2) + b"[]"),
    ("BAD_HEADER", struct.pack("<Q", 2) + b"{,"),
    ("BAD_HEADER", struct.pack("<Q", 100_000) + b"[" * 100_000),
    ("BAD_HEADER", struct.pack("<Q", 15) + b'{"a":1,"a":2}  '),
]


@pytest.mark.parametrize(("refusal", "data"), HEADER_ATTACKS, ids=lambda value: str(value)[:24])
def test_hostile_header(tmp_path: Path, refusal: str, data: bytes) -> None:
    write_adapter(tmp_path, data)
    assert refused(tmp_path) == refusal


def changed_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    write_adapter(folder)
    path = folder / "manifest.json"
    table = json.loads(path.read_bytes())
    change(table)
    # In canonical form, so that it is the change that is refused.
    path.write_text(json.dumps(table, sort_keys=True, indent=1, ensure_ascii=False))


MANIFEST_ATTACKS: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("BAD_MANIFEST", lambda table: table.update(kind="checkpoint")),
    ("BAD_MANIFEST", lambda table: table["files"].pop(TENSOR_FILE)),
    ("BAD_MANIFEST", lambda table: table["files"].pop(CONFIG_FILE)),
]


@pytest.mark.parametrize(("refusal", "change"), MANIFEST_ATTACKS)
def test_hostile_manifest(
    tmp_path: Path, refusal: str, change: Callable[[dict[str, Any]], None]
) -> None:
    changed_manifest(tmp_path, change)
    assert refused(tmp_path) == refusal


@pytest.mark.parametrize("refusal", AdapterRefusal, ids=lambda refusal: refusal.name)
def test_every_refusal_is_shown_here(refusal: AdapterRefusal) -> None:
    """A name that no attack meets would be one that nobody knows to work."""
    shown = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    assert f'"{refusal.name}"' in shown
