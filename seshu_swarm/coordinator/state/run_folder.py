"""Where everything of a run lies: the only place that knows the names of its files."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from seshu_swarm.errors import UsageError, from_os_error


@dataclass(frozen=True)
class RunFolder:
    """Hold-outs are private to the coordinator; packages are what the swarm may fetch."""

    path: Path

    @classmethod
    def of(cls, text: str) -> RunFolder:
        return cls(Path(text).expanduser())

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.sqlite"

    @property
    def packages(self) -> Path:
        return self.path / "packages"

    @property
    def hold_outs(self) -> Path:
        return self.path / "hold-outs"

    @property
    def revealed(self) -> Path:
        """Retired held-out sets with their salts: for everyone."""
        return self.path / "revealed"

    @property
    def pretraining(self) -> Path:
        return self.path / "pretraining"

    @property
    def training_state(self) -> Path:
        return self.path / "training-state"

    @property
    def training(self) -> Path:
        """What is kept of plans of pipelined training."""
        return self.path / "training"

    def training_of(self, plan: str) -> Path:
        return self.training / plan

    @property
    def scoring(self) -> Path:
        """What scorers are handed: random ids and tensors."""
        return self.path / "scoring"

    def scoring_of(self, round_index: int) -> Path:
        return self.scoring / f"round-{round_index:04d}"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    def package(self, digest: str) -> Path:
        return self.packages / digest

    def adapter(self, digest: str) -> Path:
        return self.package(digest)

    @property
    def reports(self) -> Path:
        return self.path / "rounds"

    def report(self, round_index: int) -> Path:
        return self.reports / f"round-{round_index:04d}.json"

    @property
    def logs(self) -> Path:
        """What helper processes say on standard error."""
        return self.path / "logs"

    def make(self) -> None:
        """Make the folder for its owner alone; one that is there keeps its mode."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, str(self.path)) from error

    def must_exist(self) -> None:
        """Raises UsageError when no run was opened here."""
        if not self.ledger.exists():
            raise UsageError(
                f"{self.path} holds no run",
                rule="a run is opened once",
                way_out="python -m seshu_swarm.coordinator open --state-dir FOLDER",
            )

    def hold(self) -> IO[str]:
        """Take the run for this process until the returned file is closed. Raises UsageError."""
        file = self.lock.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise UsageError(
                f"another coordinator command works on {self.path}",
                rule="one at a time: open, run, pretrain, revoke and reveal change the run",
                way_out="stop the other one first, with Ctrl-C or systemctl stop seshu-coordinator",
            ) from None
        return file
