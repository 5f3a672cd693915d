"""A span is loaded from its own bytes only, into its own memory only, whatever the layout.

Memory and bytes are measured by the kernel, in a child process that has loaded a tiny checkpoint
before, so that what is counted is the span and not the code that loads it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import torch as safetensors_torch
from transformers import MambaForCausalLM

from seshu_swarm import checkpoints
from seshu_swarm.checkpoints.tensor_file import PIECE, TensorFile
from seshu_swarm.errors import PackageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.spans import Span

torch.set_num_threads(1)

# A span of 45 MB: the allocator's own few megabytes cannot decide whether 1.3 of it are kept.
LARGE = MambaShape(d_model=768, num_blocks=5)
TINY = MambaShape(d_model=16, num_blocks=2)
SPAN = Span(1, 4)
MOST_PEAK = 1.3
DTYPES = {"stock": torch.float32, "stock-f16": torch.float16, "stock-bf16": torch.bfloat16}

# Writing 5 resets the peak to what is resident now (man 5 proc, clear_refs).
MEASURE = """
import json, sys
from pathlib import Path
import torch
from seshu_swarm import checkpoints
from seshu_swarm.spans import Span

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])

torch.set_num_threads(1)
checkpoints.load_span(Path(sys.argv[1]), Span(0, 1))
try:
    Path("/proc/self/clear_refs").write_text("5")
    before, read_before = status("VmRSS"), bytes_read()
except OSError as error:
    print(json.dumps({"skip": f"the kernel does not tell peaks here: {error}"}))
    raise SystemExit
module = checkpoints.load_span(Path(sys.argv[2]), Span.parse(sys.argv[3]))
size = sum(parameter.nbytes for parameter in module.parameters())
peak, read = status("VmHWM") - before, bytes_read() - read_before
print(json.dumps({"size": size, "peak": peak / size, "read": read / size}))
"""


def write_layouts(root: Path, shape: MambaShape) -> dict[str, Path]:
    """The same random model in our shards, and in one file as stock transformers saves it."""
    torch.manual_seed(5)
    tensors = WholeModel(shape).checkpoint_tensors()
    folders = {"ours": root / "ours"}
    checkpoints.save_checkpoint(folders["ours"], shape=shape, tensors=tensors, about={}, card="")
    stock = MambaForCausalLM.from_pretrained(folders["ours"])
    for name, dtype in DTYPES.items():
        folders[name] = root / name
        stock.to(dtype).save_pretrained(folders[name])
        stock.to(torch.float32)
    return folders


@pytest.fixture(scope="module")
def tiny_layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_layouts(tmp_path_factory.mktemp("tiny"), TINY)


@pytest.fixture(scope="module")
def large_layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_layouts(tmp_path_factory.mktemp("large"), LARGE)


@pytest.mark.parametrize(
    ("layout", "reads"),
    # Ours is read once for its digests and once for its numbers.
    [("ours", 2.0), ("stock", 1.0), ("stock-bf16", 0.5)],
)
def test_a_span_costs_its_own_memory_and_its_own_bytes(
    tiny_layouts: dict[str, Path], large_layouts: dict[str, Path], layout: str, reads: float
) -> None:
    folders = [str(tiny_layouts[layout]), str(large_layouts[layout])]
    command = [sys.executable, "-c", MEASURE, *folders, str(SPAN)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    measured = json.loads(found.stdout)
    if "skip" in measured:
        pytest.skip(measured["skip"])
    assert measured["size"] == 4 * SPAN.length * block_parameters(LARGE)
    # Never below 1: it is the span that was measured.
    assert 0.9 < measured["peak"] <= MOST_PEAK
    assert measured["read"] == pytest.approx(reads, abs=0.02)


def block_parameters(shape: MambaShape) -> int:
    """By the formulas of the Mamba paper's block, for dt_rank = d_model / 16 and d_conv = 4."""
    d, n, r = shape.d_model, 16, shape.d_model // 16
    return d + 6 * d * d + 2 * d * (n + 1 + 4 + 1 + (r + 2 * n) + r + 1)


@pytest.mark.parametrize("layout", ["ours", *DTYPES])
def test_what_is_read_is_what_safetensors_reads(tiny_layouts: dict[str, Path], layout: str) -> None:
    folder = tiny_layouts[layout]
    expected = {
        name: tensor.float()
        for path in folder.glob("*.safetensors")
        for name, tensor in safetensors_torch.load_file(path).items()
    }
    found = checkpoints.load_tensors(folder)
    assert set(found) == set(expected) == set(TINY.all_tensors())
    for name, tensor in found.items():
        assert tensor.dtype is torch.float32
        assert torch.equal(tensor, expected[name])
    span = checkpoints.load_span(folder, Span(1, 2))
    assert not list(span.buffers())
    for name, tensor in span.checkpoint_tensors().items():
        assert tensor.dtype is torch.float32 and tensor.device.type == "cpu"
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("count", [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3])
def test_tensors_of_any_length_come_in_pieces(tmp_path: Path, count: int) -> None:
    torch.manual_seed(count)
    numbers, other = torch.randn(count), torch.randn(3)
    safetensors_torch.save_file({"numbers": numbers, "other": other}, tmp_path / "file")
    file = TensorFile.open(tmp_path / "file", {"numbers": (count,), "other": (3,)})
    found = torch.zeros(count)
    file.read_into({"numbers": found})
    assert torch.equal(found, numbers)


def test_no_weight_is_drawn_that_is_read_afterwards(tiny_layouts: dict[str, Path]) -> None:
    before = torch.get_rng_state()
    checkpoints.load_whole(tiny_layouts["ours"])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loaded_span_does_not_change_with_its_file(tmp_path: Path) -> None:
    path = write_layouts(tmp_path, TINY)["stock"] / checkpoints.WHOLE_FILE
    span = checkpoints.load_span(path.parent, Span(0, 2))
    before = {name: t.detach().clone() for name, t in span.checkpoint_tensors().items()}
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    for name, tensor in span.checkpoint_tensors().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("layout", ["ours", "stock"])
def test_a_config_alone_cannot_make_a_peer_allocate(tmp_path: Path, layout: str) -> None:
    folder = write_layouts(tmp_path, TINY)[layout]
    config = MambaShape(d_model=32_768, num_blocks=2).to_config()
    (folder / checkpoints.CONFIG).write_text(json.dumps(config))
    (folder / "manifest.json").unlink(missing_ok=True)
    with pytest.raises(PackageError, match="has shape"):
        checkpoints.load_span(folder, Span(0, 1))
