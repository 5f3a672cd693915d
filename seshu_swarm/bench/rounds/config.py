"""Settings of a process of donors. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, setting


@dataclass(frozen=True, kw_only=True)
class CrowdConfig(OutputConfig):
    """Some nodes of the DHT, and the donors that announce through them."""

    run_id: str = setting("bench", "Name of the run.")
    base_revision: str = setting("0" * 64, "Revision that the adapters were trained on.")
    peers: tuple[str, ...] = setting((), "Multiaddrs to enter by.")
    folder: str = setting("", "Folder of the nodes' keys.")
    nodes: int = setting(1, "Nodes of the DHT in this process.")
    donors: int = setting(1, "Donors in this process, each with a key of its own.")
    first: int = setting(0, "Number of the first donor: it decides on the adapter's digest.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.nodes <= self.donors:
            raise UsageError(
                f"--nodes {self.nodes} --donors {self.donors}",
                rule="at least one node, and a donor for each",
            )
