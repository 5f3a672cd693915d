"""Settings of the commands that keep a run whole. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.config import argument, setting
from seshu_swarm.coordinator.config import RunFolderConfig


@dataclass(frozen=True, kw_only=True)
class BackupConfig(RunFolderConfig):
    """`coordinator backup FILE`: key, ledger, hold-outs and text in one file."""

    file: str = argument("File to write, .tar.gz; it must not exist.")
    packages: bool = setting(False, "Also copy checkpoints, adapters and the catalogue.")


@dataclass(frozen=True, kw_only=True)
class RestoreConfig(RunFolderConfig):
    """`coordinator restore FILE`: a run folder from its backup."""

    file: str = argument("Backup to restore from; --state-dir must be empty or missing.")
