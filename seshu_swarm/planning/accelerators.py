"""GPUs that are rented: peak rates of dense 16-bit matrix products, and memory. Pure.

Numbers are those of the vendors' data sheets, without sparsity (where a sheet states only the
sparse rate, half of it), accumulated in float32. Prices are not here: they change by the week.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from seshu_swarm.errors import UsageError

GB = 1_000_000_000
TERA = 1e12


@dataclass(frozen=True)
class Accelerator:
    """`peak_flops_per_second`: bfloat16, or float16 where the chip has no bfloat16 (T4, V100)."""

    name: str
    peak_flops_per_second: float
    memory_bytes: int


ACCELERATORS = (
    Accelerator("b200", 2_250 * TERA, 180 * GB),
    Accelerator("mi300x", 1_307 * TERA, 192 * GB),
    Accelerator("h200", 989 * TERA, 141 * GB),
    Accelerator("h100-sxm", 989 * TERA, 80 * GB),
    Accelerator("h100-pcie", 756 * TERA, 80 * GB),
    Accelerator("l40s", 362 * TERA, 48 * GB),
    Accelerator("a100-80gb", 312 * TERA, 80 * GB),
    Accelerator("a100-40gb", 312 * TERA, 40 * GB),
    Accelerator("rtx-4090", 165 * TERA, 24 * GB),
    Accelerator("rtx-a6000", 155 * TERA, 48 * GB),
    Accelerator("a10", 125 * TERA, 24 * GB),
    Accelerator("v100", 125 * TERA, 32 * GB),
    Accelerator("l4", 121 * TERA, 24 * GB),
    Accelerator("rtx-3090", 71 * TERA, 24 * GB),
    Accelerator("t4", 65 * TERA, 16 * GB),
)
ALIASES = {
    "h100": "h100-sxm",
    "a100": "a100-80gb",
    "4090": "rtx-4090",
    "3090": "rtx-3090",
    "a6000": "rtx-a6000",
}


def find(name: str) -> Accelerator:
    """By name, in any case, with blanks or underscores for hyphens. Raises UsageError."""
    plain = "-".join(name.lower().replace("_", " ").split())
    known = {accelerator.name: accelerator for accelerator in ACCELERATORS}
    if (full := ALIASES.get(plain, plain)) in known:
        return known[full]
    near = difflib.get_close_matches(plain, [*known, *ALIASES], n=1)
    raise UsageError(
        f"--gpu {name!r} is not known",
        rule=f"one of {', '.join(known)}",
        way_out=f"did you mean {near[0]!r}?" if near else "or --measure, on the machine itself",
    )
