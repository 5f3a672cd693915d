"""Checkpoints from a stranger: every lie of a file is refused before its numbers are used.

The file is one that stock transformers could have saved, without a manifest: a digest would only
show that the bytes are those that the stranger announced.
"""

from __future__ import annotations

import json
import pickle  # noqa: TID251 - made here to show that it is refused, never read
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import torch as safetensors_torch
from torch import Tensor
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
)

from seshu_swarm import checkpoints
from seshu_swarm.checkpoints.tensor_file import MAX_HEADER_BYTES, PIECE, TensorFile
from seshu_swarm.errors import PackageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.spans import Span

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=16, num_blocks=2)
NAME = "backbone.layers.1.mixer.in_proj.weight"
HEAD = "lm_head.weight"
Header = dict[str, Any]
Tensors = dict[str, Tensor]


def model_tensors(shape: MambaShape = SHAPE) -> Tensors:
    torch.manual_seed(0)
    return {name: t.detach() for name, t in WholeModel(shape).checkpoint_tensors().items()}


TENSORS = model_tensors()
DATA: bytes = safetensors_torch.save(TENSORS, {"format": "pt"})
HEADER_END = 8 + struct.unpack_from("<Q", DATA)[0]
START, END = json.loads(DATA[8:HEADER_END])[NAME]["data_offsets"]


def write(folder: Path, data: bytes, shape: MambaShape = SHAPE) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / checkpoints.CONFIG).write_text(json.dumps(shape.to_config()))
    (folder / checkpoints.WHOLE_FILE).write_bytes(data)
    return folder


def refused(folder: Path) -> str:
    """What a person is told; it fits a few lines, whatever the stranger wrote."""
    with pytest.raises(PackageError) as caught:
        checkpoints.load_span(folder, Span(1, 2))
    text = str(caught.value).replace(str(folder), "")
    assert len(text) < 400 and text.isprintable()
    return text


def with_header(change: Callable[[Header], object], *, after: bytes = b"") -> bytes:
    header = json.loads(DATA[8:HEADER_END])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + DATA[HEADER_END:] + after


def entry(**values: Any) -> bytes:
    return with_header(lambda header: header[NAME].update(values))


def file_of(tensors: Tensors) -> bytes:
    data: bytes = safetensors_torch.save(tensors)
    return data


def moved_by_four(header: Header) -> None:
    for value in header.values():
        if "data_offsets" in value:
            value["data_offsets"] = [offset + 4 for offset in value["data_offsets"]]


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def test_the_file_that_the_attacks_vary_is_accepted(tmp_path: Path) -> None:
    for data in (DATA, with_header(lambda header: None)):
        span = checkpoints.load_span(write(tmp_path, data), Span(1, 2))
        assert torch.equal(span.checkpoint_tensors()[NAME], TENSORS[NAME])


SIZE = END - START
LIES: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("a size too small", entry(data_offsets=[START, END - 4]), (NAME, f"{END - 4}", f"{SIZE}")),
    ("a size too large", entry(data_offsets=[START, 1 << 60]), (NAME, f"{1 << 60}", f"{SIZE}")),
    ("an end before the start", entry(data_offsets=[END, START]), (NAME, f"{SIZE} bytes")),
    ("the bytes of another", entry(data_offsets=[0, SIZE]), ("starts at byte", "ends at")),
    ("a hole", with_header(moved_by_four, after=b"\0" * 4), ("starts at byte 4", "ends at 0")),
    ("negative offsets", entry(data_offsets=[-SIZE, 0]), (NAME, "two offsets")),
    ("fractions", entry(data_offsets=[float(START), float(END)]), (NAME, "two offsets")),
    ("truths", entry(data_offsets=[False, True]), (NAME, "two offsets")),
    ("three offsets", entry(data_offsets=[START, END, END]), (NAME, "two offsets")),
    ("no offsets", entry(data_offsets=None), (NAME, "two offsets")),
    ("nesting", entry(data_offsets=nested(500)), (NAME, "two offsets")),
    ("another shape", entry(shape=[16, 64]), (NAME, "[16, 64]", "[64, 16]")),
    ("a flat shape", entry(shape=[1024]), (NAME, "[1024]", "[64, 16]")),
    ("a shape of text", entry(shape="64,16"), (NAME, "64,16", "[64, 16]")),
    ("a nested shape", entry(shape=nested(500)), (NAME, "list", "[64, 16]")),
    ("half the type", entry(dtype="F16"), (NAME, f"{SIZE // 2} bytes")),
    ("float64", entry(dtype="F64"), (NAME, "'F64'", "F32, F16, BF16")),
    ("whole numbers", entry(dtype="I32"), (NAME, "'I32'", "F32, F16, BF16")),
    ("eight bits", entry(dtype="F8_E4M3"), (NAME, "'F8_E4M3'", "F32, F16, BF16")),
    ("a type that is a list", entry(dtype=["F32"]), (NAME, "list", "F32, F16, BF16")),
    ("a fourth fact", entry(device="cuda"), (NAME, "dtype, shape and data_offsets")),
    ("no facts", with_header(lambda header: header.update({NAME: None})), (NAME, "None")),
    ("bytes after the last", DATA + b"smuggled", (f"{len(DATA) - HEADER_END + 8} bytes",)),
    (
        "a byte less",
        DATA[:-1],
        (f"{len(DATA) - HEADER_END - 1} bytes", str(len(DATA) - HEADER_END)),
    ),
    ("only the header", DATA[:HEADER_END], ("holds 0 bytes", str(len(DATA) - HEADER_END))),
    ("half a header", DATA[:100], ("of 100 bytes", f"header of {HEADER_END - 8}")),
    ("nothing", b"", ("of 0 bytes",)),
    ("seven bytes", b"\0" * 7, ("of 7 bytes",)),
    ("exabytes", struct.pack("<Q", 2**64 - 1) + b"{}", (str(2**64 - 1),)),
    ("a list", struct.pack("<Q", 2) + b"[]", ("list", "a table")),
    ("no JSON", struct.pack("<Q", 2) + b"{,", ("not JSON",)),
    ("no text", struct.pack("<Q", 2) + b"\xff\xff", ("not JSON",)),
    ("deep nesting", struct.pack("<Q", 100_000) + b"[" * 100_000, ("not JSON",)),
    ("a name twice", struct.pack("<Q", 15) + b'{"a":1,"a":2}  ', ("twice",)),
    ("a pickle", pickle.dumps({NAME: [0.0] * 16}), ("states a header",)),
]


@pytest.mark.parametrize(("data", "said"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_a_file_that_lies_is_refused_with_both_values(
    tmp_path: Path, data: bytes, said: tuple[str, ...]
) -> None:
    text = refused(write(tmp_path, data))
    assert not [value for value in said if value not in text], text


def test_a_header_above_the_cap_is_not_read(tmp_path: Path) -> None:
    length = MAX_HEADER_BYTES + 1
    text = refused(write(tmp_path, struct.pack("<Q", length) + b"{}" + b" " * length))
    assert str(length) in text and str(MAX_HEADER_BYTES) in text


def without(*names: str) -> bytes:
    return file_of({name: t for name, t in TENSORS.items() if name not in names})


SETS: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("one missing", without(NAME), (f"lacks '{NAME}'", str(len(TENSORS)))),
    ("three missing", without(*list(TENSORS)[:3]), ("lacks", "and 2 more tensors")),
    ("an extra one", file_of(TENSORS | {HEAD: torch.ones(384, 16)}), (f"holds besides '{HEAD}'",)),
    ("an extra name of lines", file_of(TENSORS | {"a\nb": torch.ones(1)}), (r"a\nb",)),
    ("an extra long name", file_of(TENSORS | {"x" * 9_000: torch.ones(1)}), ("xxx",)),
]


@pytest.mark.parametrize(("data", "said"), [s[1:] for s in SETS], ids=[s[0] for s in SETS])
def test_another_set_of_tensors_is_refused_by_name(
    tmp_path: Path, data: bytes, said: tuple[str, ...]
) -> None:
    text = refused(write(tmp_path, data))
    assert not [value for value in said if value not in text], text


def test_an_untied_model_without_its_head_is_refused(tmp_path: Path) -> None:
    untied = MambaShape(d_model=16, num_blocks=2, tie_embeddings=False)
    assert f"lacks '{HEAD}'" in refused(write(tmp_path, DATA, untied))


BAD_NUMBERS = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_undefined_weights_are_named_and_counted(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: t.to(dtype) for name, t in TENSORS.items()}
    tensors[NAME].view(-1)[[3, 500, 1023]] = torch.tensor(BAD_NUMBERS, dtype=dtype)
    text = refused(write(tmp_path, file_of(tensors)))
    assert NAME in text and "3 infinite or undefined numbers of 1024" in text


@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize("places", [[0], [-1], [0, -1]])
def test_undefined_numbers_are_counted_in_every_piece(
    tmp_path: Path, bad: float, places: list[int]
) -> None:
    numbers = torch.zeros(PIECE + 5)
    numbers[places] = bad
    (tmp_path / "file").write_bytes(file_of({"numbers": numbers}))
    file = TensorFile.open(tmp_path / "file", {"numbers": (PIECE + 5,)})
    with pytest.raises(PackageError, match=f"numbers holds {len(places)} infinite"):
        file.read_into({"numbers": torch.empty(PIECE + 5)})


def test_a_file_cut_after_its_header_was_checked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(file_of({"numbers": torch.ones(10)}))
    file = TensorFile.open(path, {"numbers": (10,)})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(PackageError, match="numbers ends early"):
        file.read_into({"numbers": torch.empty(10)})


OTHERS = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=384,
        )
    ),
    "mamba2": lambda: Mamba2ForCausalLM(
        Mamba2Config(
            hidden_size=16,
            num_heads=4,
            head_dim=8,
            n_groups=1,
            num_hidden_layers=2,
            vocab_size=384,
        )
    ),
    "falcon_mamba": lambda: FalconMambaForCausalLM(
        FalconMambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=384)
    ),
}


@pytest.mark.parametrize("model_type", sorted(OTHERS))
def test_another_architecture_is_refused_by_its_config(tmp_path: Path, model_type: str) -> None:
    OTHERS[model_type]().save_pretrained(tmp_path)
    text = refused(tmp_path)
    assert f"'{model_type}'" in text and "'mamba'" in text


# Not FalconMamba: its tensors have Mamba's names and shapes, only its config tells it apart.
@pytest.mark.parametrize("model_type", ["llama", "mamba2"])
def test_another_architecture_under_a_mamba_config_is_refused_by_its_tensors(
    tmp_path: Path, model_type: str
) -> None:
    OTHERS[model_type]().save_pretrained(tmp_path)
    (tmp_path / checkpoints.CONFIG).write_text(json.dumps(SHAPE.to_config()))
    text = refused(tmp_path)
    assert checkpoints.WHOLE_FILE in text and ("lacks" in text or "has shape" in text)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


SMALL = {"one": (2, 3), "two": (4,)}
SMALL_DATA = file_of({name: torch.ones(size) for name, size in SMALL.items()})


@given(position=st.integers(0, len(SMALL_DATA) - 1), value=st.integers(0, 255))
def test_whatever_passes_is_finite_and_complete(scratch: Path, position: int, value: int) -> None:
    """One byte is changed, of the header as of the numbers."""
    data = bytearray(SMALL_DATA)
    data[position] = value
    (scratch / "file").write_bytes(data)
    found = {name: torch.full(size, float("nan")) for name, size in SMALL.items()}
    try:
        TensorFile.open(scratch / "file", SMALL).read_into(found)
    except PackageError:
        return
    assert all(bool(tensor.isfinite().all()) for tensor in found.values())
    num_changed = sum(int((tensor != 1).sum()) for tensor in found.values())
    assert num_changed <= 1
