"""Which options for CUDA devices run on this machine, fastest first, and why the others do not.

Nothing here is imported or compiled before it is asked for. An option counts only after it has
given the right numbers on the device (`selfcheck`): a few seconds of compiling, once, since Triton
keeps what it compiled on disk.
"""

from __future__ import annotations

import functools
import importlib
import logging
from dataclasses import dataclass

import torch

from seshu_swarm.mamba.kernels.gpu import conv, fused, norm, scan, selfcheck
from seshu_swarm.mamba.kernels.gpu.selfcheck import PLAIN, Triple

logger = logging.getLogger(__name__)

TRITON = Triple(scan.scan, conv.conv, norm.norm)
# Triton generates nothing for older devices.
MIN_CAPABILITY = (7, 0)


@dataclass(frozen=True)
class Option:
    """`kernels` is none where the option does not run here, for the reason given."""

    name: str
    kernels: Triple | None
    reason: str


def kernels() -> dict[str, Triple]:
    """The options that run here by name, the fastest first. The others are logged with reasons."""
    triton = triton_kernels()
    options = [mamba_ssm_kernels(triton.kernels or PLAIN), triton]
    for option in options:
        logger.info("%s: %s", option.name, option.reason)
    return {option.name: option.kernels for option in options if option.kernels is not None}


def triton_kernels() -> Option:
    """Our own kernels, which need nothing but the Triton that torch's CUDA wheel brings."""
    return _option("triton", ["triton"], TRITON)


def mamba_ssm_kernels(own: Triple) -> Option:
    """mamba_ssm's scan and causal_conv1d's convolution; `own` does what they cannot."""
    combined = Triple(
        functools.partial(fused.scan, fused=fused.mamba_ssm_scan, own=own.scan),
        functools.partial(fused.conv, fused=fused.causal_conv1d_silu, own=own.conv),
        own.norm,
    )
    needed = ["mamba_ssm.ops.selective_scan_interface", "causal_conv1d"]
    return _option("mamba_ssm", needed, combined)


def _option(name: str, needed: list[str], kernels: Triple) -> Option:
    obstacle = _device() or _missing(needed) or _wrong(kernels)
    if obstacle is not None:
        return Option(name, None, obstacle)
    return Option(name, kernels, "runs here and agrees with plain torch")


def _device() -> str | None:
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    capability = torch.cuda.get_device_capability()
    if capability < MIN_CAPABILITY:
        found, least = (".".join(map(str, pair)) for pair in (capability, MIN_CAPABILITY))
        return f"the device has compute capability {found}, less than {least}"
    return None


def _missing(needed: list[str]) -> str | None:
    for module in needed:
        try:
            importlib.import_module(module)
        except Exception as error:  # a build for another torch or driver may raise anything
            return f"{module} cannot be imported: {error}"
    return None


def _wrong(kernels: Triple) -> str | None:
    try:
        selfcheck.check(kernels, torch.device("cuda", torch.cuda.current_device()))
    except Exception as error:  # no compiler, no room, an instruction the device lacks, wrong sums
        return f"failed its check against plain torch: {error}"
    return None
