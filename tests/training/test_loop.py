"""The training loop: budget, schedule, accumulation, decay, stopping and resuming."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from seshu_swarm.errors import DataError, TrainingError, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.training.loop import Batch, Hooks, StepReport, TrainingResult, is_decayed, train
from seshu_swarm.training.schedule import Budget, Schedule
from seshu_swarm.training.state import StateFile

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=16, num_blocks=2, vocab_size=40)
STEPS = 6


def model_of(seed: int = 0) -> WholeModel:
    torch.manual_seed(seed)
    return WholeModel(SHAPE)


def batch_of(index: int) -> Batch:
    ids = np.random.default_rng(index).integers(3, SHAPE.vocab_size, (2, 12))
    return ids, ids


class Forgetful(nn.Module):
    """The whole model behind dropout: its training draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = model_of()
        self.dropout = nn.Dropout(0.3)

    def logits(self, ids_BL: Tensor) -> Tensor:
        logits: Tensor = self.dropout(self.whole.logits(ids_BL))
        return logits


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self, seconds_per_reading: float = 0.0) -> None:
        self.now, self._seconds_per_reading = 0.0, seconds_per_reading

    def __call__(self) -> float:
        self.now += self._seconds_per_reading
        return self.now


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_same(left: nn.Module, right: nn.Module) -> None:
    for name, expected in weights(right).items():
        assert torch.equal(weights(left)[name], expected), name


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.05, 0.5),  # half of the warm-up
        (0.1, 1.0),
        (0.55, 0.6),  # half of the cosine: midway between 1.0 and 0.2
        (0.4, 0.8),  # a third of it: 0.2 + 0.8 * (1 + cos 60°) / 2
        (1.0, 0.2),
        (1.5, 0.2),
    ],
)
def test_learning_rate_rises_and_falls(progress: float, expected: float) -> None:
    schedule = Schedule(learning_rate=0.01, warmup_fraction=0.1, final_fraction=0.2)
    assert schedule.learning_rate_at(progress) == pytest.approx(0.01 * expected)


def test_schedule_without_warm_up_starts_at_the_full_rate() -> None:
    assert Schedule(learning_rate=0.01, warmup_fraction=0).learning_rate_at(0) == 0.01


def test_progress_is_the_larger_fraction() -> None:
    budget = Budget(max_steps=10, max_seconds=100)
    assert budget.progress(2, 10) == 0.2
    assert budget.progress(2, 90) == 0.9
    assert budget.progress(2, 300) == 1.0
    assert Budget(max_steps=4).progress(1, 1e9) == 0.25


@pytest.mark.parametrize(
    "make",
    [
        lambda: Schedule(learning_rate=0),
        lambda: Schedule(learning_rate=math.nan),
        lambda: Schedule(warmup_fraction=1.0),
        lambda: Schedule(accumulation=0),
        lambda: Schedule(clip=0),
        lambda: Budget(max_steps=0),
        lambda: Budget(max_steps=1, max_seconds=0),
    ],
)
def test_senseless_settings_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        make()


def test_slow_machine_ends_in_time() -> None:
    # Two readings in each step, 0.5 s apart: ten steps in five seconds.
    hooks = Hooks(clock=Clock(seconds_per_reading=0.5))
    budget = Budget(max_steps=1_000, max_seconds=5)
    result = train(model_of(), batch_of, schedule=Schedule(), budget=budget, hooks=hooks)
    assert (result.num_steps, result.seconds, result.stopped) == (10, 5.0, False)
    assert result.num_tokens == 10 * 24
    assert result.tokens_per_second == 10 * 24 / 5


def test_pause_is_not_budgeted() -> None:
    clock = Clock(seconds_per_reading=0.5)

    def pause() -> None:
        clock.now += 100

    hooks = Hooks(clock=clock, before_step=pause)
    budget = Budget(max_steps=1_000, max_seconds=2)
    assert train(model_of(), batch_of, schedule=Schedule(), budget=budget, hooks=hooks).seconds == 2


def test_reports_follow_the_schedule() -> None:
    schedule = Schedule(learning_rate=1e-3, warmup_fraction=0.5, final_fraction=0.0)
    reports: list[StepReport] = []
    budget = Budget(max_steps=4)
    result = train(
        model_of(), batch_of, schedule=schedule, budget=budget, hooks=Hooks(on_step=reports.append)
    )
    assert [r.step for r in reports] == [1, 2, 3, 4]
    assert [r.progress for r in reports] == [0.25, 0.5, 0.75, 1.0]
    assert [r.learning_rate for r in reports] == pytest.approx([5e-4, 1e-3, 5e-4, 0.0])
    assert result.last_loss == reports[-1].loss
    assert result.curve == tuple((r.step, r.loss) for r in reports)


def test_loss_is_the_mean_over_learned_tokens() -> None:
    model = model_of()
    ids, labels = batch_of(0)
    labels = labels.copy()
    labels[0, :7] = -100
    with torch.no_grad():
        log_probs = model.logits(torch.from_numpy(ids)).log_softmax(-1)
    learned = [(b, i) for b in range(2) for i in range(1, 12) if labels[b, i] != -100]
    nats = [-float(log_probs[b, i - 1, int(ids[b, i])]) for b, i in learned]
    result = train(
        model, lambda index: (ids, labels), schedule=Schedule(), budget=Budget(max_steps=1)
    )
    assert len(nats) == 11 + 5
    assert result.last_loss == pytest.approx(sum(nats) / len(nats), rel=1e-5)


def test_accumulated_microbatches_equal_one_batch() -> None:
    ids, _ = batch_of(0)
    labels = ids.copy()
    labels[1, :9] = -100  # the second half has far fewer learned tokens
    halves = [(ids[:1], labels[:1]), (ids[1:], labels[1:])]
    whole, accumulated = model_of(), model_of()
    budget = Budget(max_steps=2)
    one = train(whole, lambda index: (ids, labels), schedule=Schedule(), budget=budget)
    schedule = Schedule(accumulation=2)
    two = train(accumulated, lambda index: halves[index % 2], schedule=schedule, budget=budget)
    assert two.last_loss == pytest.approx(one.last_loss, rel=1e-5)
    assert two.num_tokens == one.num_tokens
    for name, expected in weights(whole).items():
        assert torch.allclose(weights(accumulated)[name], expected, atol=2e-5), name


def test_only_matrices_decay() -> None:
    spared = {
        n.rpartition("blocks.")[2] for n, p in model_of().named_parameters() if not is_decayed(n, p)
    }
    block = {"norm.weight", "mixer.A_log", "mixer.D", "mixer.conv1d.bias", "mixer.dt_proj.bias"}
    assert spared == {f"{i}.{name}" for i in (0, 1) for name in block} | {"ends.norm_f.weight"}


def test_first_step_is_clipped_adamw(tmp_path: Path) -> None:
    """Against Adam's first step written out: m/(sqrt(v)+eps) = g/(|g|+eps), decay beforehand."""
    schedule = Schedule(learning_rate=0.01, warmup_fraction=0, final_fraction=1, clip=0.1)
    model, twin = model_of(), model_of()
    ids = torch.from_numpy(batch_of(0)[0])
    nats = nn.functional.cross_entropy(twin.logits(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    nats.backward()
    gradients = {n: p.grad for n, p in twin.named_parameters() if p.grad is not None}
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))
    assert norm > 0.1
    state_file = StateFile(tmp_path / "state", fingerprint="x", period_seconds=0)
    train(model, batch_of, schedule=schedule, budget=Budget(max_steps=1), state_file=state_file)
    saved = safetensors_torch.load_file(tmp_path / "state")
    for name, before in weights(twin).items():
        gradient = gradients[name] * 0.1 / norm
        decay = 1 - 0.01 * 0.1 if is_decayed(name, before) else 1.0
        expected = before * decay - 0.01 * gradient / (gradient.abs() + 1e-8)
        # Where the clipped gradient is near eps, rounding decides: compare only above it.
        clear = gradient.abs() > 1e-6
        assert torch.allclose(weights(model)[name][clear], expected[clear], atol=1e-5), name
        assert torch.allclose(saved[f"exp_avg.{name}"], 0.1 * gradient, atol=1e-7), name


def test_training_learns_a_text_by_heart() -> None:
    ids, labels = batch_of(0)
    result = train(
        model_of(),
        lambda index: (ids, labels),
        schedule=Schedule(learning_rate=0.02),
        budget=Budget(max_steps=60),
    )
    assert result.curve[0][1] > 3.5  # log 40 = 3.69
    assert result.last_loss < 0.1


def test_undefined_loss_is_refused_by_name() -> None:
    model = model_of()
    with torch.no_grad():
        model.ends.norm_f.weight[0] = math.nan
    with pytest.raises(TrainingError, match="loss of step 1 is nan"):
        train(model, batch_of, schedule=Schedule(), budget=Budget(max_steps=1))


def test_nothing_to_learn_is_refused() -> None:
    ids, _ = batch_of(0)
    labels = np.full_like(ids, -100)
    with pytest.raises(DataError, match="anything to learn"):
        train(model_of(), lambda i: (ids, labels), schedule=Schedule(), budget=Budget(max_steps=1))


def test_stop_is_heeded_between_microbatches() -> None:
    schedule, budget = Schedule(accumulation=4), Budget(max_steps=5)
    stopped, reference = model_of(), model_of()
    answers = iter([False] * 6 + [True])
    hooks = Hooks(should_stop=lambda: next(answers))
    result = train(stopped, batch_of, schedule=schedule, budget=budget, hooks=hooks)
    assert (result.num_steps, result.stopped) == (1, True)
    constant = Schedule(accumulation=4)
    one_step = Hooks(should_stop=iter([False] * 4 + [True]).__next__)
    train(reference, batch_of, schedule=constant, budget=budget, hooks=one_step)
    assert_same(stopped, reference)
    assert all(parameter.grad is None for parameter in stopped.parameters())


class KilledError(Exception):
    """Stands for the end of the process: nothing after it runs."""


def killed_after(step: int) -> Hooks:
    def die(report: StepReport) -> None:
        if report.step == step:
            raise KilledError

    return Hooks(on_step=die)


def run(model: Forgetful, path: Path, hooks: Hooks | None = None) -> TrainingResult:
    return train(
        model,
        batch_of,
        schedule=Schedule(accumulation=2),
        budget=Budget(max_steps=STEPS),
        hooks=hooks,
        state_file=StateFile(path, fingerprint="run", period_seconds=0),
    )


def test_killed_and_resumed_equals_unbroken(tmp_path: Path) -> None:
    unbroken = Forgetful()
    expected = run(unbroken, tmp_path / "unbroken")
    with pytest.raises(KilledError):
        run(Forgetful(), tmp_path / "state", killed_after(4))
    torch.manual_seed(99)  # another process has other random numbers
    resumed = Forgetful()
    found = run(resumed, tmp_path / "state")
    assert_same(resumed, unbroken)
    assert (found.num_steps, found.num_tokens) == (expected.num_steps, expected.num_tokens)
    assert found.curve == expected.curve


def test_stopped_and_resumed_equals_unbroken(tmp_path: Path) -> None:
    unbroken, stopped, resumed = Forgetful(), Forgetful(), Forgetful()
    torch.manual_seed(1)
    run(unbroken, tmp_path / "unbroken")
    torch.manual_seed(1)
    hooks = Hooks(should_stop=iter([False] * 4 + [True]).__next__)
    assert run(stopped, tmp_path / "state", hooks).num_steps == 2
    run(resumed, tmp_path / "state")
    assert_same(resumed, unbroken)


def test_state_is_kept_when_the_pause_ends_the_run(tmp_path: Path) -> None:
    def out_of_memory() -> None:
        raise KilledError

    file = StateFile(tmp_path / "state", fingerprint="run", period_seconds=1e9)
    hooks = Hooks(before_step=out_of_memory)
    with pytest.raises(KilledError):
        train(
            model_of(),
            batch_of,
            schedule=Schedule(),
            budget=Budget(max_steps=1),
            hooks=hooks,
            state_file=file,
        )
    assert (tmp_path / "state").is_file()


def test_state_of_another_run_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "state"
    budget = Budget(max_steps=2)
    for fingerprint in ("first", "second"):
        model = model_of()
        file = StateFile(path, fingerprint=fingerprint, period_seconds=0)
        result = train(model, batch_of, schedule=Schedule(), budget=budget, state_file=file)
        assert result.num_tokens == 2 * 24
    fresh = model_of()
    train(fresh, batch_of, schedule=Schedule(), budget=budget)
    assert_same(model, fresh)


def test_long_curve_stays_short() -> None:
    ids = np.full((1, 2), 5)
    result = train(
        model_of(), lambda i: (ids, ids), schedule=Schedule(), budget=Budget(max_steps=300)
    )
    steps = [step for step, _ in result.curve]
    assert len(steps) <= 64
    assert len({b - a for a, b in itertools.pairwise(steps)}) == 1
    assert (steps[0], steps[-1] > 290) == (1, True)
