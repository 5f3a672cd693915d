"""Opening fails, or is killed, and is done again: no text of the first time is held out or given out."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seshu_swarm import packages
from seshu_swarm.coordinator.config import OpenConfig, PretrainConfig
from seshu_swarm.coordinator.opening import command as opening
from seshu_swarm.coordinator.pretraining import command as pretraining
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, SetState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Lineage
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.catalogue import read_pretrain_shard, read_shard
from seshu_swarm.data.holdout import read_holdout
from seshu_swarm.errors import PackageError, UsageError

torch.set_num_threads(1)

# The real command, killed with -9 right before the named fact is written.
KILLED = """
import os, signal, sys
from seshu_swarm.coordinator import __main__ as coordinator
from seshu_swarm.coordinator.state.ledger import Ledger
point, set_fact = sys.argv.pop(1), Ledger.set_fact
def dying(self, name, value):
    if name == point:
        os.kill(os.getpid(), signal.SIGKILL)
    set_fact(self, name, value)
Ledger.set_fact = dying
sys.exit(coordinator.main())
"""


def settings_of(path: Path, **changes: object) -> OpenConfig:
    facts = {"languages": ("hi",), "hold_out_rows": 40, "hold_out_documents": 10} | changes
    return OpenConfig(state_dir=str(path), **facts)  # type: ignore[arg-type]


def assert_opened_once(folder: RunFolder) -> None:
    """Three sets, in use, one file each, and none of their items where donors or pretraining look."""
    ledger = Ledger(folder.ledger)
    sets = HoldOuts(folder, ledger.database)
    names = ["tuning-1", "gate-1", "final-1"]
    assert [(s.name, s.state) for s in sets.all()] == [(n, SetState.IN_USE) for n in names]
    assert sorted(p.stem for p in folder.hold_outs.iterdir()) == sorted(names)
    held = {item.digest for n in names for item in read_holdout(sets.path(n)).items()}
    catalogue = folder.package(ledger.fact("catalogue"))
    given = set()
    for name in packages.read_manifest(catalogue).files:
        read = read_pretrain_shard if name.startswith("pretrain-") else read_shard
        given |= {item.digest for item in read(catalogue / name)}
    # 90 are asked for; near-duplicates stay on one side, so that a secret may give a few less or more.
    assert 75 <= len(held) <= 105 and len(given) > 1_000 and not held & given
    assert [p.name for p in folder.pretraining.iterdir()] == ["hi.jsonl"]
    assert [p.name for p in folder.packages.iterdir()] == [catalogue.name]


def test_a_wrong_base_is_said_before_anything_is_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "state")
    with pytest.raises(PackageError, match=r"config\.json"):
        opening.run(settings_of(folder.path, base=str(tmp_path / "nowhere")))
    assert not folder.path.exists()
    opening.run(settings_of(folder.path))
    assert_opened_once(folder)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    for path in folder.path.glob("ledger.sqlite*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_base_that_lacks_its_weights_leaves_nothing_for_the_next_opening(tmp_path: Path) -> None:
    opening.run(settings_of(tmp_path / "other"))
    pretraining.run(
        PretrainConfig(
            state_dir=str(tmp_path / "other"), d_model=32, num_blocks=1, max_steps=1, max_threads=1
        )
    )
    other = RunFolder(tmp_path / "other")
    base = other.package(Ledger(other.ledger).fact("revision"))
    shard = next(base.glob("*.safetensors"))
    shard.rename(tmp_path / "aside")
    folder = RunFolder(tmp_path / "state")
    with pytest.raises(PackageError):
        opening.run(settings_of(folder.path, base=str(base)))
    assert HoldOuts(folder, Ledger(folder.ledger).database).all() == []
    (tmp_path / "aside").rename(shard)
    opening.run(settings_of(folder.path, base=str(base)))
    ledger = Ledger(folder.ledger)
    head = Lineage(ledger.database).head()
    assert head is not None and head.revision == ledger.fact("revision")
    packages.verify(folder.package(head.revision), head.revision)


@pytest.mark.parametrize("point", ["catalogue", "licence", "run_id"])
def test_killed_on_the_way_it_is_opened_afresh(tmp_path: Path, point: str) -> None:
    folder = RunFolder(tmp_path / "state")
    command = [sys.executable, "-c", KILLED, point, "open", "--state-dir", str(folder.path)]
    command += ["--languages", "hi,ta", "--hold-out-rows", "40", "--hold-out-documents", "10"]
    killed = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # It got as far as held-out sets and running text in two languages.
    assert (folder.hold_outs / "final-1.jsonl").exists()
    assert (folder.pretraining / "ta.jsonl").exists()
    with pytest.raises(UsageError, match="never opened to its end"):
        pretraining.run(PretrainConfig(state_dir=str(folder.path)))
    opening.run(settings_of(folder.path))
    assert_opened_once(folder)


def test_what_is_not_ours_is_neither_used_nor_removed(tmp_path: Path) -> None:
    opening.run(settings_of(tmp_path))
    with pytest.raises(UsageError, match="already holds a run"):
        opening.run(settings_of(tmp_path))
    for path in tmp_path.glob("ledger.sqlite*"):
        path.unlink()
    with pytest.raises(UsageError, match=r"hold-outs is there, and ledger.sqlite is not"):
        opening.run(settings_of(tmp_path))
    assert (tmp_path / "hold-outs" / "gate-1.jsonl").exists()


def test_a_base_inside_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lies in the run's own folder"):
        opening.run(settings_of(tmp_path, base=str(tmp_path / "packages" / "base")))


def test_two_cannot_open_one_folder(tmp_path: Path) -> None:
    with RunFolder(tmp_path).hold(), pytest.raises(UsageError, match="another coordinator command"):
        opening.run(settings_of(tmp_path))
