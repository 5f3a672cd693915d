"""Settings of the commands that keep a run whole. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.coordinator.config import RunFolderConfig
from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import argument, setting

MAX_REASON = 200


@dataclass(frozen=True, kw_only=True)
class BackupConfig(RunFolderConfig):
    """`coordinator backup FILE`: key, ledger, hold-outs and text in one file."""

    file: str = argument("File to write, .tar.gz; it must not exist.")
    packages: bool = setting(False, "Also copy checkpoints, adapters and the catalogue.")


@dataclass(frozen=True, kw_only=True)
class RestoreConfig(RunFolderConfig):
    """`coordinator restore FILE`: a run folder from its backup."""

    file: str = argument("Backup to restore from; --state-dir must be empty or missing.")


@dataclass(frozen=True, kw_only=True)
class RevokeConfig(RunFolderConfig):
    """`coordinator revoke DIGEST`: the next revision without an adapter that was merged."""

    digest: str = argument("Digest of the adapter, or the beginning of it.")
    reason: str = setting("withdrawn by the maintainers", "Why, for its donor and for the card.")
    max_threads: int | None = setting(None, "Most processor threads; unset: all cores.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < len(self.reason) <= MAX_REASON or not self.reason.isprintable():
            raise UsageError(
                f"--reason of {len(self.reason)} characters",
                rule=f"one line of 1 to {MAX_REASON} characters",
            )


@dataclass(frozen=True, kw_only=True)
class RevealConfig(RunFolderConfig):
    """`coordinator reveal`: publish retired held-out sets, check one, or draw new ones."""

    set: str | None = setting(None, "Retire this set first, gate-1 for instance.")
    yes: bool = setting(False, "Retire it although no other of its role is in reserve.")
    draw: str | None = setting(
        None,
        "Folder of new text, as for open: draw a gate and a final set from it, and a tuning set if none is left.",
    )
    check: str | None = setting(None, "Check this revealed file instead; needs no run.")
    salt: str | None = setting(None, "Its salt, hexadecimal, with --check.")
    commitment: str | None = setting(None, "The commitment that was published, with --check.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len({self.check is None, self.salt is None, self.commitment is None}) > 1:
            raise UsageError(
                "--check, --salt and --commitment belong together",
                way_out="give all three, or none to reveal the run's retired sets",
            )
