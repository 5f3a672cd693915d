"""Every Triton kernel compiles for a T4 (compute capability 7.5) and an A100 (8.0).

That needs no GPU, and sees what the interpreter does not: it runs kernels as Python, which takes
names and types that the compiler refuses. In a process of its own, because kernels of a process
are either interpreted or compiled.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

POINTERS_TO_FLOAT32 = (
    "A", "D", "bias", "weight", "state", "last", "boundaries", "scratch", "dlast", "dA", "dB", "dC",
    "dD", "dbias", "dstate", "dtotal", "parts",
)  # fmt: skip
INTEGERS = (
    "length", "chunks", "d_inner", "d_state", "d_model", "rows", "z_row", "z_token", "x_row",
    "x_token",
)  # fmt: skip
# Type of the inputs, capability, and whether the pointers that may be None are there.
CASES = [("fp16", 75, True), ("fp32", 75, False), ("bf16", 80, True), ("fp32", 80, True)]
SCAN = {"SOFTPLUS": True, "CHUNK": 16, "BLOCK_N": 16, "BLOCK_D": 32}
CONV = {"K": 4, "BLOCK_T": 32, "BLOCK_D": 64}
# Kernel, its constants and warps as its launcher has them, pointers that may be None.
KERNELS = [
    ("scan", "forward", SCAN, 1, "D z bias state lengths boundaries"),
    ("scan", "backward", SCAN, 1, "D z bias lengths dlast"),
    ("conv", "forward", CONV, 8, "state lengths"),
    ("conv", "backward_before_silu", CONV, 8, "state lengths"),
    ("conv", "backward_input", CONV, 8, "dstate"),
    ("norm", "forward", {"BLOCK": 1024}, 4, ""),
    ("norm", "backward", {"BLOCK": 1024}, 4, ""),
]


def kind_of(name: str, element: str) -> str:
    if name in INTEGERS:
        return "i32"
    if name == "lengths":
        return "*i64"
    if name == "epsilon":
        return "fp32"
    return "*fp32" if name in POINTERS_TO_FLOAT32 else f"*{element}"


def compile_all() -> None:
    """In the other process: compile each kernel with its options and without."""
    triton = importlib.import_module("triton")
    source = importlib.import_module("triton.compiler").ASTSource
    target = importlib.import_module("triton.backends.compiler").GPUTarget
    for operator, name, constants, warps, options in KERNELS:
        module = importlib.import_module(f"seshu_swarm.mamba.kernels.gpu.{operator}_triton")
        kernel = getattr(module, name)
        for element, capability, is_full in CASES:
            fixed = constants if is_full else {**constants, **dict.fromkeys(options.split())}
            signature = {
                argument: "constexpr" if argument in fixed else kind_of(argument, element)
                for argument in kernel.arg_names
            }
            compiled = triton.compile(
                source(kernel, signature=signature, constexprs=fixed),
                target=target("cuda", capability, 32),
                options={"num_warps": warps},
            )
            print(operator, name, element, capability, len(compiled.asm["cubin"]))


def test_every_kernel_compiles_for_old_and_new_devices(tmp_path: Path) -> None:
    pytest.importorskip(
        "triton", reason="Triton is not installed: only torch's CUDA wheel brings it"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from tests.mamba.test_gpu_compile import compile_all; compile_all()"],
        env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = [int(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(sizes) == len(KERNELS) * len(CASES)
    assert min(sizes) > 0
