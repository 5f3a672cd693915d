"""The base in memory, with a ΔW added in place for a while.

There is no copy of the model and none of its matrices: what a ΔW changed is read again from the
checkpoint's files, so that the base has the very bits that it was loaded with. One matrix of a ΔW
is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seshu_swarm import checkpoints
from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.apply import apply_in_place
from seshu_swarm.errors import UsageError


class Base:
    """A checkpoint's model. Its files must stay as they are for as long as it is used."""

    def __init__(self, folder: Path) -> None:
        """Raises PackageError."""
        self._stored = checkpoints.StoredTensors.open(folder)
        self.model = self._stored.load_whole().eval().requires_grad_(False)
        self._weights = self.model.checkpoint_tensors()

    @contextmanager
    def with_delta(self, delta: Delta, lam: float = 1.0) -> Iterator[None]:
        """The model has W₀ + λ·ΔW inside the block, the very bits of W₀ after it, also on errors.

        Raises UsageError for a ΔW that does not fit, PackageError where the files have changed; after
        the latter the model is of no use any more.
        """
        changed: list[str] = []
        try:
            for name in delta:
                matrix = delta[name]
                if name not in self._weights or self._weights[name].shape != matrix.shape:
                    raise UsageError(f"ΔW of {name}", rule="it must fit a weight of the base")
                changed.append(name)
                apply_in_place(self._weights[name], matrix, lam)
                del matrix  # before the next one is made
            yield
        finally:
            self._stored.read_into({name: self._weights[name] for name in changed})
