"""Settings of `simulate`: a sentence and a unit under every field. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.config import setting
from seshu_swarm.coordinator.config import RunFolderConfig
from seshu_swarm.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SimulateConfig(RunFolderConfig):
    """`coordinator simulate`: replay recorded rounds under a policy."""

    policy: str = setting("", "Python file with a function `policy`: see docs/policies.md.")
    rounds: tuple[int, ...] = setting((), "Rounds to replay; unset: all that have ended.")
    score_calls: int | None = setting(
        None,
        "Most mixtures scored in one round; unset: four for each adapter, and eight.",
    )
    methods: tuple[str, ...] = setting(
        ("ties", "centred_clip"), "Merge methods that the coordinator's own search tries too."
    )
    min_gain: float = setting(
        0.002, "Least gain that the coordinator's own search asks for, in bits per byte."
    )
    max_detectable: float = setting(
        0.05,
        "A language whose smallest detectable gain is above this is unscored, in bits per byte.",
    )
    max_threads: int | None = setting(None, "Most processor threads; unset: all cores.")
    report: str | None = setting(None, "File for a JSON report.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.policy:
            raise UsageError("no policy given", way_out="--policy FILE, see docs/policies.md")
