"""Settings of `python -m seshu_swarm doctor`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.program.config import JoinConfig, setting


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(JoinConfig):
    hub: bool = setting(
        False, "Also ask the Hub whether the token is valid, waiting at most 5 seconds."
    )
    json: bool = setting(False, "Print the findings as one JSON object instead of a table.")
