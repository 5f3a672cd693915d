"""What a fetch may bring: looked at when the manifest is known, before any file is asked for.

A reference that the coordinator signed (a checkpoint, a data catalogue) may bring what it names.
One that a donor announced pins a manifest of the donor's own making: it could name a terabyte.
"""

from __future__ import annotations

from collections.abc import Callable

from seshu_swarm.adapters.refusals import AdapterRefusal, refuse
from seshu_swarm.adapters.rules import ALLOWED_FILES, KIND
from seshu_swarm.packages import Manifest

# As much as a holder takes in.
MAX_ADAPTER_BYTES = 64 << 20

Admit = Callable[[Manifest], None]


def anything(manifest: Manifest) -> None:
    """For references of someone who is trusted with this disk."""


def only_an_adapter(manifest: Manifest) -> None:
    """For references of strangers. Raises AdapterError, by the names of the strict reader."""
    if manifest.kind != KIND:
        raise refuse(
            AdapterRefusal.BAD_MANIFEST,
            f"package of kind {manifest.kind[:40]!r}",
            rule=f"kind {KIND!r}",
        )
    extra = sorted(set(manifest.files) - ALLOWED_FILES)
    if extra:
        raise refuse(
            AdapterRefusal.EXTRA_FILE,
            f"the package holds {extra[0][:80]!r}",
            rule=f"its files are {', '.join(sorted(ALLOWED_FILES))}",
        )
    if manifest.size_bytes > MAX_ADAPTER_BYTES:
        raise refuse(
            AdapterRefusal.FILE_TOO_LARGE,
            f"package of {manifest.size_bytes} bytes",
            rule=f"at most {MAX_ADAPTER_BYTES}",
        )
