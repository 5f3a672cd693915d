"""The bench of rounds: a small world that is really trained, and a crowd in its real process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seshu_swarm.adapters.delta import module_norms
from seshu_swarm.bench import BENCHES
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.rounds import bench, spreading
from seshu_swarm.bench.rounds.bench import Honest, Nulls
from seshu_swarm.bench.rounds.config import CrowdConfig
from seshu_swarm.bench.rounds.crowd import new_donor, record_of_donor
from seshu_swarm.bench.rounds.spreading import Crowds, Spread
from seshu_swarm.bench.rounds.world import Sizes, World
from seshu_swarm.bench.rounds.worthless import worthless_adapters
from seshu_swarm.errors import UsageError
from seshu_swarm.network.identity import verify
from seshu_swarm.program import running
from seshu_swarm.records.uids import adapter_keys
from tests.adapters.samples import made

SMALL = Sizes(
    languages=("hi", "ta"),
    base_steps=150,
    adapter_steps=40,
    tuning_rows=20,
    tuning_documents=2,
    gate_rows=100,
    gate_documents=6,
    pool_rows=120,
    pool_documents=8,
    final_rows=60,
    final_documents=4,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield World(tmp_path_factory.mktemp("world"), SMALL)
    torch.set_num_threads(threads)


def test_honest_donors_pass_and_worthless_ones_do_not(world: World) -> None:
    honest = bench.measure_honest(world)
    assert (honest.donors, honest.passed, honest.better) == (2, 2, 2)
    found = worthless_adapters(world.honest, 4, seed=1)
    alone = bench.measure_nulls(world, found, per_round=1)
    together = bench.measure_nulls(world, found, per_round=3)
    assert (alone.adapters, alone.rounds, together.rounds) == (4, 4, 2)
    assert alone.accepted == together.accepted == 0


def test_gate_sets_are_drawn_anew_and_in_the_same_way(world: World) -> None:
    first, again, other = world.gate(0), world.gate(0), world.gate(1)
    assert first == again and first != other
    assert all(len(found) == 100 for found in first.rows.values())


def test_worthless_adapters_have_the_norms_they_say(tmp_path: Path) -> None:
    honest = {name: made(tmp_path / name, seed=ord(name)) for name in "ab"}
    found = worthless_adapters(honest, 16, seed=0)
    assert len(found) == 16
    for name, adapter in found.items():
        kind, part, number = name.split("-")
        model = honest["ab"[int(number) // 2 % 2]]
        expected = {n: float(part) * norm for n, norm in module_norms(model).items()}
        if kind == "noise":
            assert module_norms(adapter) == pytest.approx(expected)
        else:
            for module, (A, B) in adapter.pairs.items():
                assert torch.equal(A.abs(), model.pairs[module][0].abs())
                assert torch.equal(B.abs(), model.pairs[module][1].abs())
                assert not torch.equal(B, model.pairs[module][1])
            assert adapter.scale == float(part) * model.scale


def test_a_donor_of_a_crowd_is_an_identity_like_any_other() -> None:
    one, other = new_donor(), new_donor()
    assert one.peer_id != other.peer_id and len(one.public_key) == 294
    assert verify(one.public_key, b"data", one.sign(b"data"))
    assert not verify(other.public_key, b"data", one.sign(b"data"))
    records = [record_of_donor(n, run_id="r", base_revision="0" * 64) for n in range(300)]
    assert len({record.digest for record in records}) == 300
    # Spread over the buckets of the DHT as digests are.
    assert len({record.key for record in records}) > 0.9 * len(adapter_keys("r"))


def test_shares_of_a_crowd_leave_nobody_out() -> None:
    shares = Crowds(donors=1_000, nodes=10, processes=3).shares()
    assert [nodes for nodes, _, _ in shares] == [4, 3, 3]
    numbers = [n for _, donors, first in shares for n in range(first, first + donors)]
    assert numbers == list(range(1_000))
    with pytest.raises(UsageError, match="a donor for each"):
        CrowdConfig(nodes=3, donors=2)


@pytest.mark.swarm
def test_all_records_reach_the_ledger(tmp_path: Path) -> None:
    found: list[Spread] = []

    async def main(stop: running.Stop) -> int:
        async with asyncio.timeout(60):
            crowds = Crowds(donors=12, nodes=2, processes=1)
            found.append(await spreading.measure(tmp_path, crowds))
        return 0

    assert running.run(main) == 0
    [spread] = found
    assert (spread.donors, spread.taken, spread.found, spread.lost) == (12, 12, 12, 0)
    assert 0 < spread.announce_seconds and 0 < spread.seconds < 60


def test_results_by_hand() -> None:
    nulls = [
        Nulls(
            per_round=1,
            adapters=200,
            rounds=200,
            chosen=3,
            gate_readings=3,
            accepted=1,
            seconds=9.0,
        ),
        Nulls(
            per_round=10,
            adapters=200,
            rounds=20,
            chosen=4,
            gate_readings=2,
            accepted=2,
            seconds=5.0,
        ),
    ]
    honest = Honest(2, 2, {"hi": (-0.02, -0.01), "ta": (-0.01, 0.001)}, 3.0)
    spread = Spread(donors=10, taken=9, found=8, announce_seconds=1.0, seconds=2.5)
    assert bench.results_of(nulls, honest, spread) == {
        "null_accepted_of_200": 2,
        "null_accepted_1_to_a_round": 1,
        "null_accepted_10_to_a_round": 2,
        "null_gate_readings_1_to_a_round": 3,
        "null_gate_readings_10_to_a_round": 2,
        "honest_passed_of_2": 2,
        "languages_better_of_2": 1,
        "honest_change_hi": -0.02,
        "honest_change_ta": -0.01,
        "records_lost_of_10": 2,
        "records_seconds": 2.5,
    }
    rows = bench.rows_of(nulls, honest, spread)
    assert [row["seconds"] for row in rows] == [9.0, 5.0, 3.0, 2.5]
    assert rows[3]["found"].startswith("2 lost")


def test_the_bench_is_listed_and_needs_no_links() -> None:
    assert BENCHES["rounds"][0] == "seshu_swarm.bench.rounds.bench:run_bench"
    with pytest.raises(UsageError, match="links"):
        bench.run_bench(BenchConfig(name="rounds", links="home"))
