"""Numbers of the benches of a swarm against independent ones: quantiles, memory, results, text."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.swarm import failover, hops, sessions
from seshu_swarm.bench.swarm.failover import Fault, StallRow
from seshu_swarm.bench.swarm.memory import held_by
from seshu_swarm.bench.swarm.model import RandomModel, prompt
from seshu_swarm.bench.swarm.summary import Times, quantile
from seshu_swarm.bench.swarm.talk import Token
from seshu_swarm.bench.swarm.village import free_ports
from seshu_swarm.errors import ResourceError, UsageError

MB = 1 << 20


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("count", [1, 2, 15, 200])
def test_quantiles_are_numpy_s_inverted_cdf(share: float, count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    expected = np.quantile(values, share, method="inverted_cdf")
    assert quantile(list(values), share) == expected


def test_times_of_nothing_are_no_numbers() -> None:
    assert math.isnan(Times.of([]).p50_ms)
    assert Times.of([0.003, 0.001, 0.002]) == Times(2.0, 3.0, 3)


def test_memory_of_a_process_and_its_child() -> None:
    """Both hold 64 MB that nobody shares; the parent's child is found by itself."""
    hold = "held = b'x' * (64 << 20)"
    child = f"{hold}; print('held', flush=True); input()"
    parent = f"import subprocess, sys; {hold}; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        held = held_by(process.pid)
        process.communicate(b"\n")
    assert held.num_processes == 2
    assert 128 * MB <= held.own <= held.pss <= 128 * MB + 2 * 40 * MB


def test_memory_of_a_process_that_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises((ResourceError, psutil.NoSuchProcess)):
            held_by(process.pid)


def test_ports_are_free_and_differ() -> None:
    assert len(set(free_ports(30))) == 30


def test_text_of_the_random_model_wanders_and_depends_on_the_state(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = RandomModel.write(tmp_path / "m", d_model=64, num_blocks=2, seed=0)
    ids = prompt(80, seed=1)
    tokens = model.continuation(ids, 200)
    assert tokens == model.whole.generate_greedy(ids, max_new_tokens=200)
    assert len({tuple(tokens[i : i + 3]) for i in range(198)}) > 150
    assert model.continuation([*ids[:10], *ids[11:]], 200) != tokens  # one of 70 ago is missing


def stall(fault: Fault, position: int, ms: float, *, identical: bool = True) -> StallRow:
    return StallRow(fault.value, position, "0", 2.0, ms, 1, identical)


def test_results_of_failover() -> None:
    rows = [stall(Fault.KILL, 256, ms) for ms in (10.0, 30.0, 20.0)]
    rows += [stall(Fault.KILL, 32_768, ms) for ms in (22.0, 25.0, 40.0)]
    rows += [stall(Fault.SILENCE, 256, 700.0), stall(Fault.TWO, 256, 90.0)]
    results = failover.results_of(rows)
    assert results["stall_ms_p50"] == pytest.approx(22.0)
    assert results["stall_ms_p99"] == pytest.approx(40.0)
    assert results["stall_32768_vs_256"] == pytest.approx(25.0 / 20.0)
    assert results["stall_silent_ms_p50"] == pytest.approx(700.0)
    assert results["stall_two_neighbours_ms_p50"] == pytest.approx(90.0)
    assert results["tokens_identical"] is True
    rows.append(stall(Fault.TWO, 256, 1.0, identical=False))
    assert failover.results_of(rows)["tokens_identical"] is False
    few = failover.results_of(rows[:3])
    assert "stall_32768_vs_256" not in few


def test_a_stall_is_the_longer_of_two_waits_after_the_fault_less_a_normal_token() -> None:
    def tokens(*moments: tuple[float, float]) -> list[Token]:
        return [Token(0, began, arrived, 0.0) for began, arrived in moments]

    normal = 0.002
    # Struck before the first step: all of the wait counts, from the blow on.
    assert failover._stall(1.0, tokens((1.1, 1.5), (1.5, 1.502)), normal) == pytest.approx(0.498)
    # The token that was on its way came unharmed; the next one waited.
    late = tokens((0.999, 1.001), (1.001, 1.301), (1.301, 1.303))
    assert failover._stall(1.0, late, normal) == pytest.approx(0.298)
    # One arrived before the blow and says nothing.
    assert failover._stall(1.0, tokens((0.2, 0.9), (0.9, 1.101)), normal) == pytest.approx(0.099)
    assert failover._stall(1.0, tokens((0.9995, 1.001)), normal) == 0.0
    # What comes later is the weather of the links.
    calm = ((1.0, 1.002), (1.002, 1.004), (1.004, 1.5))
    assert failover._stall(1.0, tokens(*calm), normal) == pytest.approx(0.0)


def test_faults_take_turns_over_the_chain() -> None:
    assert [failover.struck_hops(Fault.KILL, n, 3) for n in range(4)] == [[0], [1], [2], [0]]
    assert [failover.struck_hops(Fault.TWO, n, 3) for n in range(3)] == [[0, 1], [1, 2], [0, 1]]


def test_results_of_hops_are_the_worst_and_each() -> None:
    rows = [hops.HopRow(n, 1.0, 2.0, 0.1, 0.5 + n, 5.0 - n, 200.0, 300.0, 80.0, 9) for n in (1, 2)]
    results = hops.results_of(rows)
    assert results["hop_overhead_ms_p50"] == results["hop_overhead_ms_p50_2"] == 2.5
    assert results["hop_overhead_ms_p99"] == results["hop_overhead_ms_p99_1"] == 4.0
    assert results["wire_bytes_per_token_per_hop"] == 200.0


def test_results_of_sessions() -> None:
    loads = [
        sessions.LoadRow("nano", 1, 100.0, 9.0, 9.0),
        sessions.LoadRow("nano", 8, 450.0, 9.0, 9.0),
    ]
    peers = [
        sessions.PeerRow("a", 2, 300.0, 280.0, 4.0),
        sessions.PeerRow("b", 2, 310.0, 280.0, 3.0),
    ]
    results = sessions.results_of(loads, peers)
    assert results["throughput_8_sessions_vs_1_nano"] == 4.5
    assert (results["idle_peer_pss_mb"], results["ready_seconds"]) == (310.0, 4.0)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"links": "moon"}, "--links"),
        ({"tokens": 1}, "--tokens"),
        ({"kills": 0}, "--kills"),
        ({"positions": ()}, "--positions"),
        ({"positions": (8,)}, "--positions"),
    ],
)
def test_settings_out_of_range_are_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        BenchConfig(name="hops", **wrong)  # type: ignore[arg-type]
