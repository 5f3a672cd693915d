"""The folder that a run is opened in: none is there yet, and nothing is left of an opening that failed.

An opening that was killed has drawn hold-outs by a secret that is lost: its text may be anywhere in
the next one's catalogue, so all of it goes. Knows no splits.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from seshu_swarm import checkpoints
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import UsageError


def must_be_free(folder: RunFolder, base: Path | None) -> None:
    """Nothing is written. Raises UsageError (a run, or files of one), PackageError (`base` is none)."""
    if folder.ledger.exists():
        if Ledger(folder.ledger).fact("run_id"):
            raise UsageError(
                f"{folder.path} already holds a run",
                rule="a folder holds one run",
                way_out="go on with coordinator run, or choose another --state-dir",
            )
    else:
        _must_be_nobodys(folder)
    if base is None:
        return
    if base.resolve().is_relative_to(folder.path.resolve()):
        raise UsageError(
            f"--base {base} lies in the run's own folder",
            rule="what an earlier opening left there is removed",
            way_out="move the checkpoint to a folder of its own",
        )
    checkpoints.read_shape(base)


def must_be_opened(folder: RunFolder, ledger: Ledger) -> None:
    """Raises UsageError where the opening was killed or failed: its sets and text are half there."""
    if not ledger.fact("run_id"):
        raise UsageError(
            f"{folder.path} was never opened to its end",
            rule="a run is what an opening has finished",
            way_out="open it again: python -m seshu_swarm.coordinator open --state-dir FOLDER",
        )


def _must_be_nobodys(folder: RunFolder) -> None:
    """Without a ledger nothing says whose files these are: they are neither used nor removed."""
    for path in _kept_in(folder):
        if path.exists():
            raise UsageError(
                f"{path} is there, and {folder.ledger.name} is not",
                rule="a run is opened in an empty folder",
                way_out="choose another --state-dir, or restore the run from its backup",
            )


def clear_unfinished(folder: RunFolder, ledger: Ledger) -> None:
    """Remove what an opening that never ended has left. For a folder without a run, held by us."""
    with ledger.database.open() as connection:
        for table in ("hold_outs", "revisions", "facts"):
            connection.execute(f"DELETE FROM {table}")
    for path in _kept_in(folder):
        shutil.rmtree(path, ignore_errors=True)


def _kept_in(folder: RunFolder) -> tuple[Path, ...]:
    return folder.hold_outs, folder.pretraining, folder.packages
