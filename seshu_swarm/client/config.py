"""Settings of the client's commands. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.config import JoinConfig, setting
from seshu_swarm.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(JoinConfig):
    """`client generate`: continue a prompt."""

    state_dir: str = setting("~/.seshu-client", "Folder for this client's key and downloads.")
    prompt: str = setting("", "Text to answer or to continue.")
    raw: bool = setting(False, "Continue the prompt as plain text instead of answering it.")
    max_new_tokens: int = setting(128, "Most bytes to generate.")
    ignore_end: bool = setting(False, "Go on after the model's own end, up to --max-new-tokens.")
    temperature: float = setting(0.0, "0: the likeliest byte each time; higher: more varied.")
    seed: int = setting(0, "Seed of the sampling, when the temperature is above 0.")
    step_seconds: float = setting(10.0, "Deadline of one step at one peer, in seconds.")
    report: str | None = setting(None, "Also write tokens and timings as JSON into this file.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_new_tokens < 1 or self.temperature < 0:
            raise UsageError(
                f"--max-new-tokens {self.max_new_tokens} --temperature {self.temperature}",
                rule="at least one token, and a temperature of 0 or more",
            )


@dataclass(frozen=True, kw_only=True)
class StatusConfig(JoinConfig):
    """`client status`: who hosts what."""

    state_dir: str = setting("~/.seshu-client", "Folder for this client's key and downloads.")
