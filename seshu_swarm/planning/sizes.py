"""Named sizes of byte-level Mamba models, from nano to 1.4b. Pure.

The names of the Mamba paper count an embedding of 50,000 subwords, which bytes do not need: its
"130m" is 91 million parameters here. What the table saves goes into blocks, so that each name is
the count of parameters, to two digits (three of a kind have names instead: nano, micro, tiny).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.shape import MambaShape

SIZES: Mapping[str, MambaShape] = MappingProxyType(
    {
        "nano": MambaShape(d_model=128, num_blocks=4),
        "micro": MambaShape(d_model=256, num_blocks=8),
        "tiny": MambaShape(d_model=384, num_blocks=12),
        "31m": MambaShape(d_model=512, num_blocks=18),
        "130m": MambaShape(d_model=768, num_blocks=34),
        "370m": MambaShape(d_model=1_152, num_blocks=44),
        "780m": MambaShape(d_model=1_600, num_blocks=48),
        "1.4b": MambaShape(d_model=2_304, num_blocks=42),
    }
)


def find(name: str) -> MambaShape:
    """Raises UsageError."""
    if (shape := SIZES.get(name.lower())) is not None:
        return shape
    near = difflib.get_close_matches(name.lower(), SIZES, n=1)
    raise UsageError(
        f"--size {name!r} is not known",
        rule=f"one of {', '.join(SIZES)}",
        way_out=f"did you mean {near[0]!r}?" if near else "--size list shows them",
    )
