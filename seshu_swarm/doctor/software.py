"""Python, torch, the kernels in use, and the p2p daemon's program."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.doctor.findings import Finding, failed, passed, warned

MIN_PYTHON = (3, 11)
START_SECONDS = 5.0
INSTALL = "install it again: pip install --force-reinstall"


def check() -> list[Finding]:
    torch = _torch()
    findings = [judge_python(sys.version_info[:3]), judge_torch(torch)]
    if torch.version:
        findings.append(judge_kernels(*_kernels()))
    return [*findings, judge_daemon(*_daemon())]


def judge_python(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version))
    if version[:2] < MIN_PYTHON:
        return failed("python", f"{text} is too old", "install Python 3.11 or newer")
    return passed("python", text)


@dataclass(frozen=True)
class TorchFacts:
    """`version` is empty where torch cannot be imported, for the reason in `obstacle`."""

    version: str = ""
    cuda_build: str | None = None
    device: str | None = None
    obstacle: str = ""


def _torch() -> TorchFacts:
    try:
        import torch
    except Exception as error:  # a build for another machine may raise anything
        return TorchFacts(obstacle=f"{type(error).__name__}: {error}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return TorchFacts(torch.__version__, torch.version.cuda, device)


def judge_torch(facts: TorchFacts) -> Finding:
    if not facts.version:
        return failed("torch", f"cannot be imported: {facts.obstacle}", f"{INSTALL} torch")
    build = f"built for CUDA {facts.cuda_build}" if facts.cuda_build else "built for CPUs"
    if facts.device:
        return passed("torch", f"{facts.version}, {build}, on {facts.device}")
    if facts.cuda_build:
        return warned(
            "torch",
            f"{facts.version}, {build}, but it sees no CUDA device",
            "fine without a GPU; else check the driver: nvidia-smi",
        )
    return passed("torch", f"{facts.version}, {build}")


def _kernels() -> tuple[str, str, str]:
    """The name of what computes on the CPU, why nothing faster does, and what is said of CUDA."""
    from seshu_swarm.mamba.kernels import choose
    from seshu_swarm.mamba.kernels.gpu import available
    from seshu_swarm.mamba.kernels.native import loading
    from seshu_swarm.mamba.kernels.native.build import BuildError

    name, why = next(iter(choose.available("cpu"))), ""
    if name == choose.PLAIN.name:
        try:
            loading.load()
        except BuildError as error:
            why = str(error)
    option = available.triton_kernels()
    return name, why, f"{option.name}: {option.reason}"


def judge_kernels(name: str, why: str, cuda: str) -> Finding:
    if why:
        return warned(
            "kernels",
            f"plain {name}, several times slower: {why}",
            "install a C compiler, such as apt install gcc, and start again",
        )
    return passed("kernels", f"CPU: {name}, the fastest that runs here; CUDA: {cuda}")


def _daemon() -> tuple[Path | None, str]:
    """The program in hivemind's wheel, and why it does not start."""
    spec = importlib.util.find_spec("hivemind")
    if spec is None or not spec.submodule_search_locations:
        return None, "hivemind is not installed"
    program = Path(spec.submodule_search_locations[0]) / "hivemind_cli" / "p2pd"
    if not program.is_file():
        return program, "there is no such file"
    if not os.access(program, os.X_OK):
        return program, "it may not be executed"
    try:
        subprocess.run([program, "-help"], capture_output=True, timeout=START_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return program, str(error)
    return program, ""


def judge_daemon(program: Path | None, obstacle: str) -> Finding:
    if obstacle:
        shown = f"{program.name}: {obstacle}" if program else obstacle
        return failed("p2p daemon", shown, f"{INSTALL} hivemind; it runs on Linux x86-64 and WSL2")
    return passed("p2p daemon", "p2pd is there and starts")
