"""The engine's bench: fair turns, the same weights everywhere, children that end, a whole tiny run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from seshu_swarm.bench import BENCHES, fresh
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.engine import calls
from seshu_swarm.bench.engine.bench import run as run_engine_bench
from seshu_swarm.bench.engine.child import Task, measure_in_child
from seshu_swarm.bench.engine.engines import (
    SDPA,
    engine_names,
    make_engine,
    make_separate,
    our_names,
    seeded_model,
)
from seshu_swarm.bench.engine.measuring import best_of
from seshu_swarm.bench.engine.sizes import FALLBACK, MAMBAPY, Sizes, Workload
from seshu_swarm.bench.run import run as run_bench
from seshu_swarm.errors import ResourceError, UsageError
from seshu_swarm.mamba.shape import MambaShape

TINY = MambaShape(d_model=32, num_blocks=2)
MIB = 1 << 20


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def task(engine: str, *, length_tokens: int = 16) -> Task:
    return Task(engine=engine, shape=asdict(TINY), batch=1, length_tokens=length_tokens, threads=1)


def test_calls_take_turns_and_a_long_one_runs_once() -> None:
    order: list[str] = []
    sleeps = {"short": 0.001, "middle": 0.004, "long": 0.06}

    def call(name: str) -> None:
        order.append(name)
        time.sleep(sleeps[name])

    best = best_of({name: partial(call, name) for name in sleeps}, seconds=0.04, rounds=4)
    assert {name: best[name].repeats for name in sleeps} == {n: order.count(n) for n in sleeps}
    assert best["long"].repeats == 1 and best["short"].repeats > 3
    assert all(best[name].seconds >= sleeps[name] for name in sleeps)
    turns = sum(before != after for before, after in pairwise(order))
    assert turns >= 6  # four rounds; run one after another there would be two


GROWING = f"""
from seshu_swarm.bench.engine.measuring import peak_growth_bytes
before = bytearray({200 * MIB})
del before
print(peak_growth_bytes(lambda: bytearray(b"x") * {64 * MIB})[1])
"""


def test_growth_is_of_one_call_alone() -> None:
    """A larger allocation before the call, already freed, does not count. In a process of its own, as
    the bench does it: what others free meanwhile would be taken off."""
    done = subprocess.run(
        [sys.executable, "-c", GROWING], capture_output=True, text=True, check=True
    )
    if done.stdout == "None\n":
        pytest.skip("this system does not reset a process's peak memory")
    assert 60 * MIB < int(done.stdout) < 100 * MIB


def test_all_engines_compute_the_same_from_the_same_tensors() -> None:
    """Logits, prefill and step; on one set of weights, not on copies."""
    model = seeded_model(TINY)
    ids_BL = torch.randint(384, (2, 12))
    reference_BLV = model.logits(ids_BL).detach()
    storage = model.span.blocks[0].get_parameter("mixer.in_proj.weight").data_ptr()
    names = engine_names((FALLBACK, MAMBAPY))
    assert {FALLBACK, MAMBAPY, "ours torch"} <= set(names)
    for name in names:
        engine = make_engine(name, model)
        assert engine.name == name
        assert storage in {p.data_ptr() for p in engine.model.parameters()}
        with torch.inference_mode(), engine.running():
            found_BLV = engine.logits(ids_BL)
            prefilled_BV, past = engine.prefill(ids_BL[:, :-1])
            stepped_BV, _ = engine.step(ids_BL[:, -1], past)
        torch.testing.assert_close(found_BLV, reference_BLV, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(prefilled_BV, reference_BLV[:, -2], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(stepped_BV, reference_BLV[:, -1], rtol=1e-3, atol=1e-5)


def test_training_steps_have_the_same_gradients_and_keep_to_their_copies() -> None:
    model = seeded_model(TINY)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids_BL = torch.randint(384, (2, 12))
    gradients = []
    for engine in make_separate(engine_names((FALLBACK, MAMBAPY)), model):
        calls.training_step(engine)(ids_BL)
        found = dict(engine.model.named_parameters())
        name = next(n for n in found if n.endswith(".0.mixer.A_log"))
        gradients.append(found[name].grad)
    assert len(gradients) >= 3 and gradients[0] is not None
    assert gradients[0].abs().max() > 0
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-3, atol=1e-8)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_an_engine_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"'ours abacus' is not on this machine; one of: .*ours"):
        make_engine("ours abacus", seeded_model(TINY))


def test_a_child_that_fails_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ResourceError, match="measuring ours abacus on 16 tokens ended with code 1"):
        measure_in_child(task("ours abacus"))
    assert "UsageError" in capfd.readouterr().err


def test_a_child_ends_when_the_one_that_asked_is_gone() -> None:
    text = fresh.written(task("ours torch", length_tokens=100_000))
    command = [sys.executable, "-m", "seshu_swarm.bench.engine.child", text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.stdin.close()
        assert process.wait(timeout=20) == 1


def test_the_bench_list_names_benches_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench(BenchConfig(name="list")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(BENCHES)
    for target, _ in BENCHES.values():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))
    with pytest.raises(UsageError, match=r"no bench 'speed'; one of: .*engine"):
        run_bench(BenchConfig(name="speed"))


def test_a_tiny_run_measures_everything(capsys: pytest.CaptureFixture[str]) -> None:
    work = Workload(shape=TINY, batch=2, length_tokens=16)
    sizes = Sizes(
        training=(work,),
        prefill=(work,),
        decode=(Workload(shape=TINY, length_tokens=4, suffix="_tiny"),),
        growth_shape=TINY,
        growth_lengths_tokens=(24,),
        gemm_size=128,
        read_bytes=MIB,
        seconds=0.02,
        stock=(),
    )
    outcome = run_engine_bench(sizes, threads=1)
    said = capsys.readouterr().out
    assert "growth with length" in said and SDPA in said and "floor" in said
    for name in ("train_time_vs_floor", "prefill_time_vs_floor", "decode_time_vs_floor_tiny"):
        # Small products and processes' overheads: far above the floor, but never below.
        assert outcome.results[name] > 1
    assert outcome.results["train_speedup_vs_sdpa_24"] > 0
    assert not [name for name in outcome.results if "mambapy" in name or "transformers" in name]
    measured = [(row["measured"], row["engine"]) for row in outcome.rows]
    for kind in ("training step", "prefill", "decode of a token", "memory of a training step"):
        assert [engine for what, engine in measured if what == kind] == our_names()
    assert [e for what, e in measured if what == "growth with length"] == [our_names()[0], SDPA]
    json.dumps(outcome.rows, allow_nan=False)


def test_ctrl_c_ends_the_bench_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "seshu_swarm", "bench", "engine"]
    with subprocess.Popen(
        [*command, "--report", str(tmp_path / "report.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("bench 0%")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert "Traceback" not in process.stderr.read()
    assert not (tmp_path / "report.json").exists()
