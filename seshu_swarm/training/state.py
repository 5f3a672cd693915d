"""What a killed training run needs to go on: parameters, optimiser, step and random numbers.

One safetensors file, written whole: a reader sees the old state or the new one. A `fingerprint`
names the run (its settings and its data); a state of another run is not used.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from seshu_swarm.packages import write_whole

logger = logging.getLogger(__name__)

MOMENTS = ("exp_avg", "exp_avg_sq")
RNG = "rng.cpu"
MAX_CURVE_POINTS = 64


class TrainingState:
    """The moving parts of a run; `num_tokens` and `elapsed_seconds` count from its first start."""

    def __init__(self, module: nn.Module, optimiser: torch.optim.AdamW) -> None:
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.optimiser = optimiser
        self.step = 0
        self.num_tokens = 0
        self.elapsed_seconds = 0.0
        self.last_loss = float("nan")
        self.curve: list[tuple[int, float]] = []

    def record(self, loss: float, num_tokens: int) -> None:
        """Count a step; the curve keeps evenly spaced points, fewer as the run grows."""
        self.step, self.num_tokens, self.last_loss = (
            self.step + 1,
            self.num_tokens + num_tokens,
            loss,
        )
        distance = self.curve[1][0] - self.curve[0][0] if len(self.curve) > 1 else 1
        if not self.curve or self.step - self.curve[-1][0] >= distance:
            self.curve.append((self.step, loss))
        if len(self.curve) > MAX_CURVE_POINTS:
            self.curve = self.curve[::2]

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, both moments of each, and torch's generator; no copies."""
        tensors = {RNG: torch.get_rng_state()}
        for name, parameter in self.parameters.items():
            tensors[f"parameter.{name}"] = parameter.detach()
            moments = self.optimiser.state.get(parameter, {})
            tensors |= {f"{m}.{name}": moments[m] for m in MOMENTS if m in moments}
        return tensors


def save_state(path: Path, state: TrainingState, fingerprint: str) -> None:
    """Write the state whole. Raises DiskFullError or ResourceError."""
    facts = {
        "fingerprint": fingerprint,
        "step": str(state.step),
        "num_tokens": str(state.num_tokens),
        "elapsed_seconds": repr(state.elapsed_seconds),
        "last_loss": repr(state.last_loss),
        "curve": json.dumps(state.curve),
    }
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors().items()}
    write_whole(path, safetensors.torch.save(tensors, metadata=facts))


def load_state(path: Path, state: TrainingState, fingerprint: str) -> bool:
    """Bring `state` and its module to what was saved; False (and untouched) for another run's."""
    with safetensors.safe_open(path, framework="pt") as file:
        facts = file.metadata() or {}
        if facts.get("fingerprint") != fingerprint:
            return False
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
    state.step = int(facts["step"])
    state.num_tokens = int(facts["num_tokens"])
    state.elapsed_seconds = float(facts["elapsed_seconds"])
    state.last_loss = float(facts["last_loss"])
    state.curve = [(step, loss) for step, loss in json.loads(facts["curve"])]
    torch.set_rng_state(tensors[RNG])
    with torch.no_grad():
        for name, parameter in state.parameters.items():
            parameter.copy_(tensors[f"parameter.{name}"])
            if f"{MOMENTS[0]}.{name}" in tensors:
                state.optimiser.state[parameter] = _moments(name, parameter, tensors, state.step)
    return True


def _moments(
    name: str, parameter: Tensor, tensors: dict[str, Tensor], step: int
) -> dict[str, Tensor]:
    moments = {m: tensors[f"{m}.{name}"].to(parameter.device) for m in MOMENTS}
    return {"step": torch.tensor(float(step))} | moments


class StateFile:
    """Where a run keeps its state, and how often (in seconds of training)."""

    def __init__(self, path: Path, *, fingerprint: str, period_seconds: float = 20.0) -> None:
        self.path, self.fingerprint = path, fingerprint
        self._period_seconds = period_seconds
        self._saved_at_seconds = 0.0

    def restore(self, state: TrainingState) -> bool:
        """Go on from the file, where there is one of this run."""
        if not self.path.exists():
            return False
        if not load_state(self.path, state, self.fingerprint):
            logger.warning("%s belongs to another run: training starts anew", self.path.name)
            return False
        self._saved_at_seconds = state.elapsed_seconds
        logger.info("training goes on after step %d", state.step)
        return True

    def save_if_due(self, state: TrainingState, elapsed_seconds: float) -> None:
        if elapsed_seconds - self._saved_at_seconds >= self._period_seconds:
            self.save(state)

    def save(self, state: TrainingState) -> None:
        save_state(self.path, state, self.fingerprint)
        self._saved_at_seconds = state.elapsed_seconds
