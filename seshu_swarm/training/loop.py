"""The training loop of both roles: AdamW, warm-up and cosine, a budget in steps and in seconds.

A model is any module with `logits(ids)`. Microbatches are asked for by number, so that a run that
was killed goes on with the very microbatches the unbroken one would have seen: its weights are then
the same, bit for bit, where the budget is in steps. Knows no data, no adapters and no transformers.

Shapes: B batch, L length, V vocab_size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from seshu_swarm.errors import DataError, TrainingError
from seshu_swarm.training.schedule import Budget, Schedule
from seshu_swarm.training.state import StateFile, TrainingState

IGNORED = -100

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""`(ids_BL, labels_BL)`; a label is the id at its own place, or -100 where nothing is learned."""

Batches = Callable[[int], Batch]
"""The microbatch with a number; the same number always gives the same one."""


class TrainableModel(Protocol):
    """A torch module that is trained."""

    def logits(self, ids_BL: Tensor) -> Tensor:
        """Logits, shape (batch, length, vocab_size)."""
        ...


@dataclass(frozen=True)
class StepReport:
    """`loss` in nats per learned token, over the step's microbatches; `step` counts from 1."""

    step: int
    loss: float
    learning_rate: float
    progress: float
    tokens_per_second: float


@dataclass(frozen=True)
class TrainingResult:
    """Steps, tokens and seconds of the whole run, also before it was resumed.

    `stopped`: the caller asked for it before the budget was spent. `curve`: some (step, loss).
    """

    num_steps: int
    num_tokens: int
    seconds: float
    last_loss: float
    tokens_per_second: float
    stopped: bool
    curve: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the caller does meanwhile.

    `should_stop` is asked before every microbatch. `before_step` may wait (a pause); its time is
    not part of the budget. `clock` gives seconds.
    """

    on_step: Callable[[StepReport], None] = lambda report: None
    should_stop: Callable[[], bool] = lambda: False
    before_step: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic


class HookFunctions(TypedDict, total=False):
    """The same as keyword arguments."""

    on_step: Callable[[StepReport], None]
    should_stop: Callable[[], bool]
    before_step: Callable[[], None]
    clock: Callable[[], float]


def train(
    model: TrainableModel,
    batches: Batches,
    *,
    schedule: Schedule,
    budget: Budget,
    hooks: Hooks | None = None,
    state_file: StateFile | None = None,
) -> TrainingResult:
    """Train the model's parameters that require a gradient, in place.

    With a `state_file` the run goes on from what was saved there, and saves itself now and then and
    when it is stopped; a microbatch that was under way is then done again. Raises TrainingError for
    a loss that is not finite, DataError for a step without anything to learn.
    """
    hooks = hooks or Hooks()
    module = cast(nn.Module, model)
    state = TrainingState(module, make_optimiser(module, schedule))
    if state_file is not None:
        state_file.restore(state)
    module.train()
    is_stopped = False
    while budget.progress(state.step, state.elapsed_seconds) < 1:
        _wait(hooks, state, state_file)
        started = hooks.clock()
        progress = budget.progress(state.step + 1, state.elapsed_seconds)
        rate = schedule.learning_rate_at(progress)
        if not _step(model, batches, state, rate, schedule, hooks):
            is_stopped = True
            break
        state.elapsed_seconds += hooks.clock() - started
        hooks.on_step(_report(state, rate, budget))
        if state_file is not None:
            state_file.save_if_due(state, state.elapsed_seconds)
    module.eval()
    if is_stopped and state_file is not None:
        state_file.save(state)
    return _result(state, is_stopped)


def _wait(hooks: Hooks, state: TrainingState, state_file: StateFile | None) -> None:
    """The caller's pause. It may also end the run by raising; what was trained is kept."""
    try:
        hooks.before_step()
    except BaseException:
        if state_file is not None:
            state_file.save(state)
        raise


def make_optimiser(module: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW; weight decay only on matrices, and never on A_log, D, norms and biases."""
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    decayed = [p for name, p in parameters.items() if is_decayed(name, p)]
    plain = [p for name, p in parameters.items() if not is_decayed(name, p)]
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=schedule.learning_rate,
        betas=schedule.betas,
    )


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies (the Mamba code exempts A_log and D; norms are vectors)."""
    return parameter.ndim >= 2 and name.rpartition(".")[2] != "A_log"


def batch_nats(model: TrainableModel, batch: Batch) -> Tensor:
    """Total nats of the microbatch's learned tokens, a differentiable scalar."""
    device = next(cast(nn.Module, model).parameters()).device
    ids_BL, labels_BL = (torch.from_numpy(part).to(device) for part in batch)
    logits_BLV = model.logits(ids_BL[:, :-1])
    return functional.cross_entropy(
        logits_BLV.flatten(0, 1),
        labels_BL[:, 1:].flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )


def _step(
    model: TrainableModel,
    batches: Batches,
    state: TrainingState,
    learning_rate: float,
    schedule: Schedule,
    hooks: Hooks,
) -> bool:
    """One optimiser step; False if it was stopped, and then nothing has changed."""
    count = schedule.accumulation
    microbatches = [batches(state.step * count + i) for i in range(count)]
    num_learned = sum(int((labels[:, 1:] != IGNORED).sum()) for _, labels in microbatches)
    if num_learned == 0:
        raise DataError("a step without anything to learn", rule="every batch has a learned token")
    nats = 0.0
    for batch in microbatches:
        if hooks.should_stop():
            state.optimiser.zero_grad()
            return False
        loss = batch_nats(model, batch) / num_learned
        nats += float(loss.detach())
        loss.backward()
    _check_finite(nats, "loss", state.step)
    norm = nn.utils.clip_grad_norm_(state.parameters.values(), schedule.clip)
    _check_finite(float(norm), "gradient", state.step)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate
    state.optimiser.step()
    state.optimiser.zero_grad()
    state.record(nats, sum(ids.size for ids, _ in microbatches))
    return True


def _check_finite(value: float, name: str, step: int) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"the {name} of step {step + 1} is {value}",
            rule="training goes on with finite numbers only",
            way_out="use a smaller learning rate, and check the data for broken rows",
        )


def _report(state: TrainingState, learning_rate: float, budget: Budget) -> StepReport:
    progress = budget.progress(state.step, state.elapsed_seconds)
    rate = _rate(state.num_tokens, state.elapsed_seconds)
    return StepReport(state.step, state.last_loss, learning_rate, progress, rate)


def _result(state: TrainingState, is_stopped: bool) -> TrainingResult:
    return TrainingResult(
        num_steps=state.step,
        num_tokens=state.num_tokens,
        seconds=state.elapsed_seconds,
        last_loss=state.last_loss,
        tokens_per_second=_rate(state.num_tokens, state.elapsed_seconds),
        stopped=is_stopped,
        curve=tuple(state.curve),
    )


def _rate(num_tokens: int, seconds: float) -> float:
    return num_tokens / seconds if seconds > 0 else 0.0
