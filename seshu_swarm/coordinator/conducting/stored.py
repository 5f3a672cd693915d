"""States of groups on disk, by plan and step: what a checkpoint is made of, and where a group that has lost
all its replicas goes on.

    training/PLAN/STEP/group-K.safetensors    weights (NAME), exp_avg/NAME, exp_avg_sq/NAME, step
    training/PLAN/STEP/about.json             facts of that moment; a folder appears whole or not at all
    training/PLAN/spare/group-K-STEP.safetensors    the newest copy of a group that has one replica alone

Group S, after the stages, is the ends. What comes from members is checked here; nothing of it is executed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor

from seshu_swarm import checkpoints
from seshu_swarm.errors import ProtocolError, from_os_error, shown
from seshu_swarm.mamba.shape import block_prefix
from seshu_swarm.packages import PARTIAL, write_whole
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.spans import Span

ABOUT = "about.json"
MOMENTS = ("exp_avg", "exp_avg_sq")
STEP = "step"
# Of the newest steps.
NUM_KEPT = 2
HEADER_BYTES = 4 << 20


class StoredStates:
    """Those of one plan, in `folder`; `base` is the package from which it began."""

    def __init__(self, folder: Path, record: TrainingRecord, base: Path) -> None:
        self._folder, self._base, self._record = folder, base, record
        self.shape = checkpoints.read_shape(base)

    @property
    def num_groups(self) -> int:
        return self._record.num_stages + 1

    def steps(self) -> list[int]:
        """Of which all groups are there, oldest first."""
        found = self._folder.glob("*/" + ABOUT)
        return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())

    def about(self, step: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._step(step) / ABOUT).read_bytes())
        return found

    def begin(self, step: int) -> Path:
        """An empty folder for what arrives."""
        arriving = self._folder / f"{step}{PARTIAL}"
        try:
            for missed in self._folder.glob(f"*{PARTIAL}"):
                shutil.rmtree(missed, ignore_errors=True)
            arriving.mkdir(parents=True)
        except OSError as error:
            raise from_os_error(error, str(arriving)) from error
        return arriving

    def finish(self, step: int, about: Mapping[str, Any]) -> None:
        """All groups have arrived. Older steps than the newest two go."""
        arriving = self._folder / f"{step}{PARTIAL}"
        write_whole(arriving / ABOUT, json.dumps(dict(about)).encode())
        shutil.rmtree(self._step(step), ignore_errors=True)
        os.replace(arriving, self._step(step))
        for old in self.steps()[:-NUM_KEPT]:
            shutil.rmtree(self._step(old), ignore_errors=True)

    def tensors(self, step: int) -> dict[str, Tensor]:
        """The weights of all groups by their global names. Raises ProtocolError."""
        found: dict[str, Tensor] = {}
        for group in range(self.num_groups):
            with safe_open(group_file(self._step(step), group), "pt") as file:
                found |= {name: file.get_tensor(name) for name in self.sizes(group)}
        return found

    def newest(self, group: int) -> tuple[int, Path]:
        """The step and the file where a group can go on; step 0 is the base, made now if need be."""
        kept = [(step, group_file(self._step(step), group)) for step in self.steps()]
        if found := max([*kept, *self._spares(group)], default=None):
            return found
        path = group_file(self._folder / "base", group)
        if not path.exists():
            self._write_base(group, path)
        return 0, path

    def arriving_spare(self, group: int) -> Path:
        """Where a copy is written to before it is kept."""
        self._spare.mkdir(parents=True, exist_ok=True)
        return self._spare / f"group-{group}{PARTIAL}"

    def keep_spare(self, group: int, step: int, arrived: Path) -> None:
        """In place of the older one. Raises ProtocolError."""
        self.check(arrived, group)
        older = self._spares(group)
        kept = self._spare / f"group-{group}-{step}.safetensors"
        os.replace(arrived, kept)
        for _, path in older:
            if path != kept:
                path.unlink(missing_ok=True)

    def sizes(self, group: int) -> dict[str, tuple[int, ...]]:
        """Shapes of a group's weights by their global names."""
        if group == self._record.num_stages:
            return dict(self.shape.ends_tensors())
        blocks = self.shape.block_tensors()
        return {block_prefix(i) + n: s for i in self._span(group) for n, s in blocks.items()}

    def max_bytes(self, group: int) -> int:
        """Of a group's file."""
        count = sum(torch.Size(size).numel() for size in self.sizes(group).values())
        return 4 * (1 + len(MOMENTS)) * count + HEADER_BYTES

    def check(self, path: Path, group: int) -> None:
        """Names, shapes, types, and finite weights. Raises ProtocolError."""
        expected: dict[str, tuple[int, ...]] = {STEP: ()}
        for name, size in self.sizes(group).items():
            expected |= {key: size for key in (name, *(f"{m}/{name}" for m in MOMENTS))}
        try:
            with safe_open(path, "pt") as file:
                if wrong := sorted(expected.keys() ^ set(file.keys())):
                    raise ProtocolError(f"the state of group {group}: {shown(wrong[0])}")
                for name, size in expected.items():
                    _check(name, file.get_tensor(name), size)
        except SafetensorError as error:
            raise ProtocolError(f"the state of group {group} is not readable: {error}") from None

    @property
    def _spare(self) -> Path:
        return self._folder / "spare"

    def _spares(self, group: int) -> list[tuple[int, Path]]:
        found = self._spare.glob(f"group-{group}-*.safetensors")
        return [(int(path.stem.rpartition("-")[2]), path) for path in found]

    def _step(self, step: int) -> Path:
        return self._folder / str(step)

    def _span(self, group: int) -> Span:
        return Span(*self._record.boundaries[group : group + 2])

    def _write_base(self, group: int, path: Path) -> None:
        if group == self._record.num_stages:
            weights = checkpoints.load_ends(self._base).checkpoint_tensors()
        else:
            weights = checkpoints.load_span(self._base, self._span(group)).checkpoint_tensors()
        found = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
        zeros = {f"{m}/{n}": torch.zeros_like(t) for n, t in found.items() for m in MOMENTS}
        write_whole(path, safetensors_torch.save(found | zeros | {STEP: torch.tensor(0)}))


def group_file(folder: Path, group: int) -> Path:
    return folder / f"group-{group}.safetensors"


def _check(name: str, tensor: Tensor, size: tuple[int, ...]) -> None:
    dtype = torch.int64 if name == STEP else torch.float32
    if tensor.dtype != dtype or tuple(tensor.shape) != tuple(size):
        raise ProtocolError(
            f"{name} is {tensor.dtype} {tuple(tensor.shape)}", rule=f"{dtype} {tuple(size)}"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ProtocolError(f"{name} holds NaN or infinity", rule="weights are finite")
