"""Every attack that an adapter's folder can carry is refused, by its name."""

from __future__ import annotations

import json
import pickle  # noqa: TID251 - made here to show that it is refused, never read
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.refusals import AdapterRefusal, refusal_of
from seshu_swarm.adapters.rules import CONFIG_FILE, TENSOR_FILE, AdapterRules
from seshu_swarm.errors import AdapterError
from tests.adapters.samples import RULES, SHAPE, key, lora_config, lora_tensors, write_adapter

Tensors = dict[str, torch.Tensor]


def refused(folder: Path, rules: AdapterRules = RULES, **options: Any) -> str:
    """The name of the refusal; the error must carry the donor's next step."""
    with pytest.raises(AdapterError) as caught:
        read_adapter(folder, shape=SHAPE, rules=rules, **options)
    refusal = refusal_of(caught.value)
    assert refusal is not None and caught.value.way_out
    return refusal.name


def test_the_untouched_sample_is_accepted(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    assert read_adapter(tmp_path, shape=SHAPE, rules=RULES).rank == 2


def put(name: str, tensor: torch.Tensor) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = tensor

    return change


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


A0 = key(0, "in_proj", "A")
B0 = key(0, "in_proj", "B")
DT = "base_model.model.backbone.layers.0.mixer.dt_proj.lora_A.weight"
NAN_A = torch.full((2, 8), float("nan"))
INF_B = torch.ones(32, 2).index_fill(0, torch.tensor([3]), float("inf"))

TENSOR_ATTACKS: list[tuple[str, str, Callable[[Tensors], None]]] = [
    ("nan", "NOT_FINITE", put(A0, NAN_A)),
    ("infinity", "NOT_FINITE", put(B0, INF_B)),
    ("huge values", "TOO_STRONG", put(B0, torch.full((32, 2), 1e30))),
    ("final norm", "FORBIDDEN_KEY", put("base_model.model.backbone.norm_f.weight", torch.ones(8))),
    ("base weight", "FORBIDDEN_KEY", put(A0.replace(".lora_A", ""), torch.ones(32, 8))),
    ("dt_proj", "FORBIDDEN_KEY", put(DT, torch.ones(2, 1))),
    ("head", "FORBIDDEN_KEY", put("base_model.model.lm_head.lora_A.weight", torch.ones(2, 8))),
    (
        "embeddings",
        "FORBIDDEN_KEY",
        put("base_model.model.backbone.embeddings.lora_embedding_A", torch.ones(2, 32)),
    ),
    ("A_log", "FORBIDDEN_KEY", put(A0.replace("in_proj", "A_log"), torch.ones(2, 8))),
    ("block out of range", "FORBIDDEN_KEY", put(key(2, "in_proj", "A"), torch.ones(2, 8))),
    ("block -1", "FORBIDDEN_KEY", put(key(-1, "in_proj", "A"), torch.ones(2, 8))),
    ("block 00", "FORBIDDEN_KEY", put(A0.replace("layers.0", "layers.00"), torch.ones(2, 8))),
    ("magnitude vector", "FORBIDDEN_KEY", put(A0.replace("A.weight", "magnitude_vector"), NAN_A)),
    ("wrong shape", "WRONG_SHAPE", put(A0, torch.ones(2, 9))),
    ("transposed", "WRONG_SHAPE", put(A0, torch.ones(8, 2))),
    ("flat", "WRONG_SHAPE", put(A0, torch.ones(16))),
    ("another rank in one module", "RANK_MISMATCH", put(A0, torch.ones(3, 8))),
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
    tensors = lora_tensors()
    change(tensors)
    write_adapter(tmp_path, tensors)
    assert refused(tmp_path) == refusal


CONFIG_ATTACKS: list[tuple[str, dict[str, Any]]] = [
    ("BAD_SCALE", {"lora_alpha": 1e6}),
    ("BAD_SCALE", {"lora_alpha": float("nan")}),
    ("BAD_SCALE", {"lora_alpha": float("inf")}),
    ("BAD_SCALE", {"lora_alpha": -4}),
    ("BAD_SCALE", {"lora_alpha": 0}),
    ("BAD_SCALE", {"lora_alpha": True}),
    ("BAD_SCALE", {"lora_alpha": 10**400}),
    ("BAD_SCALE", {"lora_alpha": "4"}),
    ("RANK_TOO_LARGE", {"r": 65}),
    ("RANK_TOO_LARGE", {"r": 10**9}),
    ("RANK_MISMATCH", {"r": 3}),
    ("BAD_CONFIG", {"r": 0}),
    ("BAD_CONFIG", {"r": True}),
    ("BAD_CONFIG", {"peft_type": "LOHA"}),
    ("BAD_CONFIG", {"target_modules": "all-linear"}),
    ("BAD_CONFIG", {"target_modules": []}),
    ("FORBIDDEN_KEY", {"target_modules": ["in_proj", "dt_proj"]}),
    ("FORBIDDEN_KEY", {"target_modules": [["in_proj"]]}),
    ("DORA", {"use_dora": True}),
    ("DORA", {"use_dora": 1}),
    ("RSLORA", {"use_rslora": True}),
    ("BIAS", {"bias": "all"}),
    ("BIAS", {"lora_bias": True}),
    ("MODULES_TO_SAVE", {"modules_to_save": ["lm_head"]}),
    ("TARGET_PARAMETERS", {"target_parameters": ["mixer.A_log"]}),
    ("ALPHA_PATTERN", {"alpha_pattern": {"in_proj": 1e5}}),
    ("RANK_PATTERN", {"rank_pattern": {"in_proj": 4}}),
    ("BASE_CHANGING_INIT", {"init_lora_weights": "pissa"}),
    ("BASE_CHANGING_INIT", {"init_lora_weights": "pissa_niter_4"}),
    ("BASE_CHANGING_INIT", {"init_lora_weights": "olora"}),
    ("BASE_CHANGING_INIT", {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}),
    ("BASE_CHANGING_INIT", {"corda_config": {"corda_method": "kpm"}}),
    ("PARTIAL_LAYERS", {"layers_to_transform": [0]}),
    ("PARTIAL_LAYERS", {"layers_to_transform": 0}),
    ("UNSUPPORTED_LORA", {"use_qalora": True}),
    ("UNSUPPORTED_LORA", {"trainable_token_indices": [1]}),
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


def test_rank_bomb_whose_tensors_agree(tmp_path: Path) -> None:
    write_adapter(tmp_path, lora_tensors(rank=65), config=lora_config(r=65, lora_alpha=65))
    assert refused(tmp_path) == "RANK_TOO_LARGE"
    write_adapter(tmp_path, lora_tensors(rank=64), config=lora_config(r=64, lora_alpha=64))
    assert read_adapter(tmp_path, shape=SHAPE, rules=RULES).rank == 64


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
    ("HEADER_TOO_LARGE", struct.pack("<Q", 100 << 20) + b"{"),
    ("HEADER_TOO_LARGE", struct.pack("<Q", 2**64 - 1) + b"{"),
    ("TRUNCATED", struct.pack("<Q", 1000) + b"{}"),
    ("TRUNCATED", b""),
    ("TRUNCATED", safetensors.torch.save(lora_tensors())[:-1]),
    ("BAD_HEADER", struct.pack("<Q", 2) + b"[]"),
    ("BAD_HEADER", struct.pack("<Q", 2) + b"{,"),
    ("BAD_HEADER", struct.pack("<Q", 100_000) + b"[" * 100_000),
    ("BAD_HEADER", struct.pack("<Q", 15) + b'{"a":1,"a":2}  '),
    ("PICKLE", pickle.dumps({A0: [0.0] * 16})),
]


@pytest.mark.parametrize(("refusal", "data"), HEADER_ATTACKS, ids=lambda value: str(value)[:24])
def test_hostile_header(tmp_path: Path, refusal: str, data: bytes) -> None:
    write_adapter(tmp_path, data)
    assert refused(tmp_path) == refusal


def test_header_that_really_is_100_mb(tmp_path: Path) -> None:
    text = b"{" + b" " * (100 << 20) + b"}"
    write_adapter(tmp_path, struct.pack("<Q", len(text)) + text)
    assert refused(tmp_path) == "HEADER_TOO_LARGE"


def test_torch_save_named_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    torch.save(lora_tensors(), path)
    assert zipfile.is_zipfile(path)
    write_adapter(tmp_path / "adapter", path.read_bytes())
    assert refused(tmp_path / "adapter") == "PICKLE"


def test_file_above_the_cap_is_not_read(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    size_bytes = (tmp_path / TENSOR_FILE).stat().st_size
    assert refused(tmp_path, AdapterRules(max_file_bytes=size_bytes - 1)) == "FILE_TOO_LARGE"
    large = lora_config(base_model_name_or_path="x" * RULES.max_config_bytes)
    write_adapter(tmp_path, config=large)
    assert refused(tmp_path) == "FILE_TOO_LARGE"


def test_file_cut_after_it_was_sealed(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    path = tmp_path / TENSOR_FILE
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(tmp_path) == "TRUNCATED"


def test_file_changed_after_it_was_sealed(tmp_path: Path) -> None:
    digest = write_adapter(tmp_path)
    path = tmp_path / TENSOR_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert refused(tmp_path) == "DIGEST_MISMATCH"
    write_adapter(tmp_path, lora_tensors(seed=1))
    assert refused(tmp_path, digest=digest) == "DIGEST_MISMATCH"


def changed_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    write_adapter(folder)
    path = folder / "manifest.json"
    table = json.loads(path.read_bytes())
    change(table)
    # In canonical form, so that it is the change that is refused.
    path.write_text(json.dumps(table, sort_keys=True, indent=1, ensure_ascii=False))


def file_named(name: str) -> Callable[[dict[str, Any]], None]:
    entry = {"size_bytes": 1, "sha256": "0" * 64}
    return lambda table: table["files"].update({name: entry})


MANIFEST_ATTACKS: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("BAD_MANIFEST", file_named("../../.ssh/authorized_keys")),
    ("BAD_MANIFEST", file_named("/etc/passwd")),
    ("BAD_MANIFEST", lambda table: table.update(kind="checkpoint")),
    ("BAD_MANIFEST", lambda table: table["files"].pop(TENSOR_FILE)),
    ("BAD_MANIFEST", lambda table: table["files"].pop(CONFIG_FILE)),
    ("EXTRA_FILE", file_named("adapter_model.bin")),
    ("EXTRA_FILE", file_named("modeling.py")),
]


@pytest.mark.parametrize(("refusal", "change"), MANIFEST_ATTACKS)
def test_hostile_manifest(
    tmp_path: Path, refusal: str, change: Callable[[dict[str, Any]], None]
) -> None:
    changed_manifest(tmp_path, change)
    assert refused(tmp_path) == refusal


def test_folder_without_manifest(tmp_path: Path) -> None:
    assert refused(tmp_path) == "BAD_MANIFEST"


def test_link_out_of_the_folder(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter")
    path = tmp_path / "adapter" / TENSOR_FILE
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert refused(tmp_path / "adapter") == "NOT_A_FILE"


def test_stale_base(tmp_path: Path) -> None:
    write_adapter(tmp_path, about={"base_revision": "a" * 64})
    assert refused(tmp_path, base_revision="b" * 64) == "STALE_BASE"
    read_adapter(tmp_path, shape=SHAPE, rules=RULES, base_revision="a" * 64)
    write_adapter(tmp_path)
    assert refused(tmp_path, base_revision="b" * 64) == "STALE_BASE"


def test_every_refusal_has_a_name_of_its_own() -> None:
    assert len(AdapterRefusal.__members__) == len(list(AdapterRefusal)) > 30
