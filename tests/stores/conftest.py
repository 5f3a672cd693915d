"""Three peers of one swarm: two that hold packages, and one that fetches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # hivemind warns when it is imported, and pytest's filters come after this file
    from seshu_swarm.network.dht import Swarm
    from tests.loopback import Loopback
    from tests.stores.members import Member


@pytest.fixture(scope="module")
def swarms(loopback: Loopback) -> list[Swarm]:
    from seshu_swarm.streams.protocol import BLOBS
    from tests.stores.members import at_present

    swarms = [loopback.join(name) for name in ("first", "second", "fetcher")]
    for swarm in swarms[:2]:
        loopback.run(swarm.serve(BLOBS, at_present(swarm.peer_id)))
    return swarms


@pytest.fixture
def members(swarms: list[Swarm], tmp_path: Path) -> list[Member]:
    """Two fresh holders."""
    from tests.stores.members import HANDLERS, Member

    found = [Member(swarm, tmp_path / f"holder-{n}") for n, swarm in enumerate(swarms[:2])]
    HANDLERS.update({member.swarm.peer_id: member.holder.serve for member in found})
    return found
