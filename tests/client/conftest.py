"""Fixtures of a run that rolls from revision to revision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import TinyCheckpoint

if TYPE_CHECKING:
    from seshu_swarm.mamba.whole import WholeModel
    from tests.client.rolls import Rolling


@pytest.fixture(scope="module")
def revisions(
    tiny: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory
) -> list[TinyCheckpoint]:
    """Two checkpoints of one shape that say different things."""
    from tests.client.rolls import loud_checkpoint

    folder = tmp_path_factory.mktemp("revisions")
    return [loud_checkpoint(folder / str(seed), tiny, seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def wholes(revisions: list[TinyCheckpoint]) -> dict[str, WholeModel]:
    """The references: every revision in one piece."""
    from seshu_swarm import checkpoints

    return {c.revision: checkpoints.load_whole(c.folder) for c in revisions}


@pytest.fixture(scope="module")
def run_on_loopback(
    revisions: list[TinyCheckpoint], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rolling]:
    from tests.client.rolls import Rolling

    swarm = Rolling(tmp_path_factory.mktemp("rolling"), revisions[0])
    yield swarm
    swarm.close()


@pytest.fixture
def rolling(run_on_loopback: Rolling, revisions: list[TinyCheckpoint]) -> Iterator[Rolling]:
    """At its first revision, without hosts."""
    run_on_loopback.publish(revisions[0])
    yield run_on_loopback
    run_on_loopback.end_all()
