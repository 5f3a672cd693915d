"""The bench of the pipeline, tiny: real processes, and a reference that is plain autograd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from seshu_swarm import checkpoints
from seshu_swarm.bench.pipeline.alone import Alone
from seshu_swarm.bench.pipeline.config import AloneConfig
from seshu_swarm.bench.pipeline.sizes import Sizes, fresh_base, write_text
from seshu_swarm.data.own_text import read_text
from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.training.feeding import packed_text
from seshu_swarm.training.schedule import Schedule

torch.set_num_threads(1)

BENCH = [sys.executable, "-m", "seshu_swarm", "bench", "pipeline", "--log-format", "json"]
SMALL = ["--d-model", "16", "--num-blocks", "2", "--microbatches", "2"]
TINY = Sizes(d_model=16, num_blocks=2, num_microbatches=2, batch_size=2, length=16, num_steps=20)


def tiny(report: Path, *flags: str, seconds: float = 150) -> dict[str, Any]:
    """The results of some sections."""
    command = [*BENCH, *SMALL, *flags, "--report", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(report.read_text())["results"]
    return found


def test_alone_is_adamw_of_the_mean_clipped_group_by_group(tmp_path: Path) -> None:
    """Against AdamW written out: its second step sees what was clipped in the first."""
    base = fresh_base(tmp_path / "base", TINY, 0)
    text = write_text(tmp_path / "text.jsonl", 0)
    settings = AloneConfig(
        base=str(base.folder),
        data=str(text),
        bounds=TINY.bounds,
        microbatches=2,
        batch_size=2,
        length=16,
        learning_rate=1e-3,
        num_steps=20,
    )
    alone, by_hand = Alone(settings), AdamW(base.whole.train().requires_grad_(True))
    data = packed_text(read_text(str(text), ["hi"]), batch_size=2, length=16, seed=0)
    clipped = 0
    for step in (1, 2, 3):
        numbers = (2 * step - 2, 2 * step - 1)
        loss = torch.stack([loss_of(by_hand.whole, data(n)[0]) for n in numbers]).mean()
        rate = Schedule(learning_rate=1e-3).learning_rate_at(step / 20)
        clipped += by_hand.step(step, loss, rate)
        assert alone.step(step) == pytest.approx(loss.item(), rel=1e-6)
    assert clipped > 0
    found = alone.model.checkpoint_tensors()
    for name, expected in by_hand.whole.checkpoint_tensors().items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=2e-5)


class AdamW:
    """Of a whole model, with the defaults of a schedule. Two stages of one block, and the ends."""

    def __init__(self, whole: WholeModel) -> None:
        self.whole = whole
        self._moments = {
            name: (torch.zeros_like(p), torch.zeros_like(p))
            for name, p in whole.checkpoint_tensors().items()
        }

    def step(self, number: int, loss: Tensor, rate: float) -> int:
        """How many groups were clipped."""
        named = self.whole.checkpoint_tensors()
        found = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
        norms: dict[str, float] = {}
        for name, gradient in found.items():
            group = group_of(name)
            norms[group] = (norms.get(group, 0.0) ** 2 + float(gradient.square().sum())) ** 0.5
        assert len(norms) == 3
        for name, gradient in found.items():
            self._change(name, gradient / max(1.0, norms[group_of(name)]), number, rate)
        return sum(norm > 1.0 for norm in norms.values())

    @torch.no_grad()
    def _change(self, name: str, gradient: Tensor, number: int, rate: float) -> None:
        parameter = self.whole.checkpoint_tensors()[name]
        first, second = self._moments[name]
        first += 0.1 * (gradient - first)
        second += 0.05 * (gradient.square() - second)
        if parameter.ndim >= 2 and not name.endswith("A_log"):
            parameter *= 1 - rate * 0.1
        size = (second / (1 - 0.95**number)).sqrt() + 1e-8
        parameter -= rate * first / (1 - 0.9**number) / size


def loss_of(whole: WholeModel, ids: NDArray[np.int64]) -> Tensor:
    """Nats per predicted token."""
    ids_BL = torch.from_numpy(ids)
    logits_BLV = whole.logits(ids_BL)[:, :-1]
    return functional.cross_entropy(logits_BLV.transpose(1, 2), ids_BL[:, 1:])


def group_of(name: str) -> str:
    parts = name.split(".")
    return f"stage {parts[2]}" if "layers" in parts else "ends"


def test_a_process_alone_needs_a_base() -> None:
    with pytest.raises(UsageError, match="--base"):
        AloneConfig(data="text.jsonl", bounds=(0, 2))


def test_a_base_is_random_and_has_tied_ends(tmp_path: Path) -> None:
    base = fresh_base(tmp_path / "base", TINY, 3)
    assert checkpoints.read_shape(base.folder).tie_embeddings
    again = fresh_base(tmp_path / "again", TINY, 3)
    other = fresh_base(tmp_path / "other", TINY, 4)
    assert base.revision == again.revision != other.revision


@pytest.mark.swarm
def test_two_stages_are_one_process(tmp_path: Path) -> None:
    """Their losses differ by rounding alone."""
    found = tiny(tmp_path / "report.json", "--only", "equality", "--steps", "8")
    assert found["equality_steps"] == 8
    assert found["equality_max_loss_difference"] < 1e-5
    assert found["equality_loss_last"] != found["equality_loss_first"]


@pytest.mark.swarm
@pytest.mark.alone
def test_replicas_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    """One kill, and the replica that is forked in its place."""
    found = tiny(tmp_path / "report.json", "--only", "churn", "--churn-seconds", "12")
    assert found["churn_kills"] == 1
    assert found["churn_lost"] == found["churn_doubled"] == found["churn_unheard"] == 0
    assert found["churn_counted"] >= 3 * 2 * (found["churn_steps"] - 1)
    assert found["churn_max_loss_difference"] < 0.02


@pytest.mark.swarm
def test_a_replica_joins_and_holds_the_same_weights(tmp_path: Path) -> None:
    found = tiny(tmp_path / "report.json", "--only", "join")
    assert 0 < found["join_seconds"] < 60
    assert found["join_digests_compared"] >= 1
    assert found["join_digests_equal"] is True


@pytest.mark.swarm
def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*BENCH, *SMALL, "--only", "churn"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the section has begun
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
