"""Settings of the client's commands. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from seshu_swarm.dashboard import address
from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import JoinConfig, setting


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
class ChatConfig(JoinConfig):
    """`client chat`: a conversation in the terminal."""

    state_dir: str = setting("~/.seshu-client", "Folder for this client's key and downloads.")
    system: str = setting("", "Instruction that stands before the first question.")
    max_new_tokens: int = setting(512, "Most bytes of one answer.")
    ignore_end: bool = setting(False, "Go on after the model's own end, up to --max-new-tokens.")
    temperature: float = setting(0.0, "0: the likeliest byte each time; higher: more varied.")
    seed: int = setting(0, "Seed of the sampling, when the temperature is above 0.")
    step_seconds: float = setting(10.0, "Deadline of one step at one peer, in seconds.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_new_tokens < 1 or self.temperature < 0:
            raise UsageError(
                f"--max-new-tokens {self.max_new_tokens} --temperature {self.temperature}",
                rule="at least one token, and a temperature of 0 or more",
            )


@dataclass(frozen=True, kw_only=True)
class ServeConfig(JoinConfig):
    """`client serve`: the swarm as an HTTP API."""

    state_dir: str = setting("~/.seshu-client", "Folder for this client's key and downloads.")
    http_host: str = setting(
        "127.0.0.1", "Address to answer HTTP on; others than loopback: --keys."
    )
    http_port: int = setting(8000, "Port to answer HTTP on; 0: a free one.")
    keys: str | None = setting(None, "TOML file with API keys and their limits.")
    max_sessions: int = setting(16, "Most sessions in the swarm at once.")
    max_prompt_tokens: int = setting(32_768, "Most tokens of one prompt.")
    max_new_tokens: int = setting(4_096, "Most tokens that a request may ask for, for each choice.")
    max_body_bytes: int = setting(4_194_304, "Most bytes of a request's body.")
    request_seconds: float = setting(600.0, "Deadline of a whole request, in seconds.")
    step_seconds: float = setting(10.0, "Deadline of one step at one peer, in seconds.")
    follow_seconds: float = setting(5.0, "How often to look for a newer revision, in seconds.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.http_port <= 65_535:
            raise UsageError(f"--http-port {self.http_port} is not a port", rule="0 to 65535")
        counts = (self.max_sessions, self.max_prompt_tokens, self.max_new_tokens)
        seconds = (self.request_seconds, self.step_seconds, self.follow_seconds)
        if min(*counts, self.max_body_bytes) < 1 or not min(seconds) > 0:
            raise UsageError(
                "a limit of the gateway is not positive",
                rule="sessions, tokens and bytes are at least 1, seconds above 0",
            )
        if not self.keys and not is_loopback(self.http_host):
            raise UsageError(
                f"KEYS_REQUIRED: --http-host {self.http_host} without --keys",
                rule="without keys only this machine may ask",
                way_out="give --keys FILE, or listen on 127.0.0.1",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost is not trusted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class StatusConfig(JoinConfig):
    """`client status`: who hosts what."""

    state_dir: str = setting("~/.seshu-client", "Folder for this client's key and downloads.")
    json: bool = setting(False, "Print one JSON document instead of tables.")
    web: str | None = setting(
        None, "Serve the run as a page at HOST:PORT instead, until stopped; port 0: a free one."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.web is not None:
            address.parse(self.web)
