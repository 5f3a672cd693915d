"""One small world for all attacks that need a model: made once, by real training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Imported by the fixtures: hivemind warns when it is imported, and here warnings are errors.
if TYPE_CHECKING:
    from seshu_swarm.adapters.reader import Adapter
    from seshu_swarm.bench.rounds.world import World
    from tests.attacks.sieges import Ended, Siege


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    import torch

    from seshu_swarm.bench.rounds.world import Sizes, World

    sizes = Sizes(
        languages=("hi", "ta", "bn"),
        gate_rows=160,
        gate_documents=12,
        pool_rows=200,
        pool_documents=20,
        final_rows=120,
        final_documents=6,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = World(tmp_path_factory.mktemp("world"), sizes)
    assert made.base.exists() and len(made.honest) == 3
    yield made
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def earlier(world: World) -> dict[str, Adapter]:
    """Two adapters that the round before has merged."""
    from seshu_swarm.bench.rounds.lora import trained_adapter

    rows = world.splits.shards
    return {
        f"earlier {name}": trained_adapter(
            world.base, rows[name][:200], world.text(seed), steps=20, seed=seed
        )
        for seed, name in ((31, "hi"), (32, "ta"))
    }


@pytest.fixture(scope="session")
def alone(
    world: World, earlier: dict[str, Adapter], tmp_path_factory: pytest.TempPathFactory
) -> Ended:
    """The round as it ends for the honest three alone."""
    from tests.attacks.sieges import Siege

    siege = Siege(tmp_path_factory.mktemp("alone"), world, earlier)
    siege.hand_in_honest()
    return siege.hold()


@pytest.fixture
def siege(world: World, earlier: dict[str, Adapter], tmp_path: Path) -> Siege:
    """The same round, the honest three handed in, still open."""
    from tests.attacks.sieges import Siege

    made = Siege(tmp_path, world, earlier)
    made.hand_in_honest()
    return made
