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

from seshu_swarm import packages
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.swarm import calm, drains, failover, hops, live, sessions, stalls
from seshu_swarm.bench.swarm.drains import Move, MoveRow
from seshu_swarm.bench.swarm.live import Life
from seshu_swarm.bench.swarm.memory import held_by
from seshu_swarm.bench.swarm.model import RandomModel, prompt
from seshu_swarm.bench.swarm.stalls import Fault, StallRow
from seshu_swarm.bench.swarm.summary import Times, quantile
from seshu_swarm.bench.swarm.talk import Token
from seshu_swarm.bench.swarm.village import Host, Village, free_ports
from seshu_swarm.errors import ResourceError, UsageError
from seshu_swarm.program.children import Children

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


def test_several_continuations_are_those_of_each(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = RandomModel.write(tmp_path / "m", d_model=64, num_blocks=2, seed=0)
    prompts = [prompt(40, seed) for seed in range(5)]
    found = model.continuations(prompts, 60)
    assert found == [model.whole.generate_greedy(ids, max_new_tokens=60) for ids in prompts]


def test_another_seed_makes_another_revision_with_other_text(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    first = RandomModel.write(tmp_path / "a", d_model=64, num_blocks=2, seed=0)
    after = RandomModel.write(
        tmp_path / "b", d_model=64, num_blocks=2, seed=1, parent=first.revision
    )
    assert after.revision != first.revision
    assert packages.read_manifest(after.folder, after.revision).about["parent"] == first.revision
    ids = prompt(40, seed=1)
    assert after.continuation(ids, 30) != first.continuation(ids, 30)


def stall(
    fault: Fault, position: int, ms: float, *, struck: str = "first", identical: bool = True
) -> StallRow:
    return StallRow(fault.value, position, struck, 2.0, ms, 1, identical)


def test_results_of_failover() -> None:
    rows = [stall(Fault.KILL, 256, ms) for ms in (10.0, 30.0, 20.0)]
    rows += [stall(Fault.KILL, 32_768, ms) for ms in (22.0, 25.0, 40.0)]
    rows += [stall(Fault.SILENCE, 256, 700.0), stall(Fault.TWO, 256, 90.0)]
    results = stalls.results_of(rows)
    assert results["stall_ms_p50"] == pytest.approx(22.0)
    assert results["stall_ms_p99"] == pytest.approx(40.0)
    assert results["stall_32768_vs_256"] == pytest.approx(25.0 / 20.0)
    assert results["stall_ms_p50_256"] == pytest.approx(20.0)
    assert results["stall_silent_ms_p50"] == pytest.approx(700.0)
    assert results["stall_two_neighbours_ms_p50"] == pytest.approx(90.0)
    assert results["tokens_identical"] is True
    rows.append(stall(Fault.TWO, 256, 1.0, identical=False))
    assert stalls.results_of(rows)["tokens_identical"] is False
    few = stalls.results_of(rows[:3])
    assert "stall_32768_vs_256" not in few and "stall_silent_ms_p50" not in few


def test_a_stall_that_was_not_felt_has_no_ratio() -> None:
    rows = [stall(Fault.KILL, 256, 0.0), stall(Fault.KILL, 4_096, 3.0)]
    assert math.isnan(stalls.results_of(rows)["stall_4096_vs_256"])


def test_each_place_of_the_chain_has_a_line_and_a_result() -> None:
    rows = [stall(Fault.SILENCE, 256, ms, struck="first") for ms in (500.0, 520.0, 540.0)]
    rows += [stall(Fault.SILENCE, 256, 900.0, struck="last")]
    lines = stalls.summed_up(rows)
    assert [(line["struck"], line["times"]) for line in lines] == [
        ("any", 4),
        ("first", 3),
        ("last", 1),
    ]
    results = stalls.results_of(rows)
    assert results["stall_silent_ms_p50_first"] == pytest.approx(520.0)
    assert results["stall_silent_ms_p50_last"] == pytest.approx(900.0)
    assert [failover.place(hop, 3) for hop in range(3)] == ["first", "middle", "last"]


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
    for fault in (Fault.TWO, Fault.TWO_SILENT):
        assert [failover.struck_hops(fault, n, 3) for n in range(3)] == [[0, 1], [1, 2], [0, 1]]


def life(*waits: float, wrong: int = 0, failed: bool = False) -> Life:
    return Life("a" * 64, waits, wrong, 1, failed)


def test_a_session_s_stall_is_its_longest_wait() -> None:
    lives = [life(0.01, 0.2, 0.01), life(0.01, 0.01, wrong=2), life(0.5, failed=True), life()]
    results = live.results_of(lives, "moves")
    assert results["sessions_under_moves"] == 4
    assert results["sessions_failed_under_moves"] == 1
    assert results["tokens_under_moves"] == 6
    assert results["wrong_tokens_under_moves"] == 2
    assert results["longest_stall_ms_p50_under_moves"] == pytest.approx(200.0)
    assert results["longest_stall_ms_p99_under_moves"] == pytest.approx(500.0)


def test_moves_that_were_not_done_are_cut_short() -> None:
    def move(kind: Move, *, left: int = 0, is_done: bool = True) -> MoveRow:
        return MoveRow(kind.value, "host 0", "0:2", "2:4", 5, left, 1.5, is_done)

    rows = [move(Move.DRAIN), move(Move.DRAIN, left=2), move(Move.REBALANCE)]
    rows += [move(Move.REBALANCE, is_done=False)]
    results = drains.results_of(rows)
    assert (results["drains"], results["drains_cut_short"]) == (2, 1)
    assert (results["rebalances"], results["rebalances_cut_short"]) == (1, 1)
    assert results["sessions_handed_over"] == 5 + 3 + 5 + 5
    assert results["drain_ms_p50"] == pytest.approx(1500.0)


def test_false_failovers_count_by_the_hour_of_a_session() -> None:
    watched = [calm.Watched((0.1, 0.3), 900.0, 1), calm.Watched((0.2,), 900.0, 0)]
    results = calm.results_of(watched)
    assert results["session_hours_watched"] == pytest.approx(0.5)
    assert results["false_failovers_per_hour"] == pytest.approx(2.0)
    assert results["token_ms_p50"] == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("blocks", "down", "spare"),
    [
        (["0:2", "2:4", "0:2", "2:4"], [], [0, 1, 2, 3]),
        (["0:2", "2:4", "0:2", "2:4"], [1], [0, 2]),
        (["0:2", "2:4", "2:4", "2:4"], [], [1, 2, 3]),
        (["0:2", "1:3", "2:4"], [], [1]),
        (["0:2", "2:4"], [], []),
    ],
)
def test_hosts_whose_blocks_others_have_may_go(
    tmp_path: Path, blocks: list[str], down: list[int], spare: list[int]
) -> None:
    model = RandomModel.write(tmp_path / "m", d_model=32, num_blocks=4, seed=0)
    children = Children(tmp_path / "logs", lambda name, event: None)
    village = Village(tmp_path, children, model, spans=blocks, links="loopback", seed=0)
    village.hosts = [Host(str(n), each, children, []) for n, each in enumerate(blocks)]
    found = village.spare_hosts({str(number) for number in down})
    assert [int(host.name) for host in found] == spare


def test_results_of_hops_are_the_worst_and_each() -> None:
    rows = [
        hops.HopRow(n, 1.0, 2.0, 0.1, 0.5 + n, 5.0 - n, 200.0, 300.0, 310.0, 310.0 * n, 80.0, 9)
        for n in (1, 2)
    ]
    results = hops.results_of(rows)
    assert results["hop_overhead_ms_p50"] == results["hop_overhead_ms_p50_2"] == 2.5
    assert results["hop_overhead_ms_p99"] == results["hop_overhead_ms_p99_1"] == 4.0
    assert results["wire_bytes_per_token_per_hop"] == 200.0
    assert results["star_client_bytes_per_token"] == 2 * results["client_bytes_per_token"]


def test_results_of_sessions() -> None:
    loads = [
        sessions.LoadRow("nano", 1, 1, 100.0, 9.0, 9.0),
        sessions.LoadRow("nano", 1, 8, 450.0, 9.0, 9.0),
        sessions.LoadRow("nano", 2, 8, 500.0, 9.0, 9.0),
    ]
    peers = [
        sessions.PeerRow("a", 2, 300.0, 280.0, 4.0),
        sessions.PeerRow("b", 2, 310.0, 280.0, 3.0),
    ]
    results = sessions.results_of(loads, peers)
    assert results["throughput_8_sessions_of_1_client_vs_1_nano"] == 4.5
    assert results["throughput_8_sessions_of_2_clients_vs_1_nano"] == 5.0
    assert (results["idle_peer_pss_mb"], results["ready_seconds"]) == (310.0, 4.0)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"links": "moon"}, "--links"),
        ({"tokens": 1}, "--tokens"),
        ({"kills": 0}, "--kills"),
        ({"drains": -1}, "--drains"),
        ({"rolls": -1}, "--rolls"),
        ({"positions": ()}, "--positions"),
        ({"positions": (8,)}, "--positions"),
    ],
)
def test_settings_out_of_range_are_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        BenchConfig(name="hops", **wrong)  # type: ignore[arg-type]
