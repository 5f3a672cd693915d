"""mamba-ssm's own test of its selective scan, run on ours: python run_mamba_ssm_tests.py CHECKOUT.

CHECKOUT is a source checkout of mamba-ssm; nothing of it is built. Its test and its reference are
copied to a temporary folder with our function in the fused kernel's place, on the CPU. Needs
`einops`. What is left out and why is in README.md beside this file.
"""

from __future__ import annotations

import argparse
import ast
import tempfile
from pathlib import Path

import pytest

TEST = Path("tests/ops/test_selective_scan.py")
INTERFACE = Path("mamba_ssm/ops/selective_scan_interface.py")
# Stands where the fused kernels are imported from.
OURS = """
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, repeat

from seshu_swarm.mamba.scan import selective_scan

torch.set_num_threads(1)


def selective_scan_fn(u, delta, A, B, C, *arguments, **options):
    if B.dim() == 4:
        pytest.skip("B and C in groups: no Mamba-1 model has them")
    return selective_scan(u, delta, A, B, C, *arguments, **options)


mamba_inner_fn = mamba_inner_ref = None


"""


def reference_of(source: str) -> str:
    """The text of their `selective_scan_ref`, which needs no kernel."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == "selective_scan_ref":
            return ast.get_source_segment(source, node) or ""
    raise SystemExit(f"no selective_scan_ref in {INTERFACE}")


def prepare(checkout: Path, folder: Path) -> Path:
    """Their test beside a package that holds our function and their reference."""
    interface = folder / INTERFACE
    interface.parent.mkdir(parents=True)
    text = (checkout / INTERFACE).read_text(encoding="utf-8")
    interface.write_text(OURS + reference_of(text) + "\n", encoding="utf-8")
    test = folder / TEST.name
    text = (checkout / TEST).read_text(encoding="utf-8")
    test.write_text(text.replace("device = 'cuda'", "device = 'cpu'"), encoding="utf-8")
    return test


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="A source checkout of mamba-ssm.")
    checkout = parser.parse_args().checkout
    with tempfile.TemporaryDirectory() as folder:
        test = prepare(checkout, Path(folder))
        options = ["-rs", "-p", "no:cacheprovider", "-o", f"pythonpath={folder}", "-c", "/dev/null"]
        return int(pytest.main([f"{test}::test_selective_scan", *options]))


if __name__ == "__main__":
    raise SystemExit(main())
