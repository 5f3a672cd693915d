"""Settings of a process of users. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, setting


@dataclass(frozen=True, kw_only=True)
class UsersConfig(OutputConfig):
    """One client of the swarm, and its sessions."""

    join: str = setting("", "Link of the run.")
    state_dir: str = setting("", "Folder of the client's key and of what it fetches.")
    host: str = setting("127.0.0.1", "Where to listen.")
    port: int = setting(0, "Port to listen on; 0: any.")
    announce: str = setting("", "Address to announce instead of the one listened on.")
    sessions: int = setting(1, "Sessions at once.")
    tokens: int = setting(100, "Tokens of each session, once the word is given (SIGUSR1).")
    seed: int = setting(0, "Seed of the prompts.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sessions < 1 or self.tokens < 1:
            raise UsageError(
                f"--sessions {self.sessions} --tokens {self.tokens}", rule="at least one of each"
            )
