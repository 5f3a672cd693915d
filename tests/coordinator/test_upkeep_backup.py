"""A backup is whole while the run goes on, and what comes back is the run; nothing else gets out."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seshu_swarm.coordinator.config import StatusConfig, VerifyConfig
from seshu_swarm.coordinator.showing import status, verifying
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep import backup, restore
from seshu_swarm.coordinator.upkeep.backup import CONTENTS, write_backup
from seshu_swarm.coordinator.upkeep.config import BackupConfig, RestoreConfig
from seshu_swarm.coordinator.upkeep.restore import restore_backup
from seshu_swarm.errors import DigestError, PackageError, UsageError
from tests.coordinator.runs import Run, adapter_on, opened, publish_round

torch.set_num_threads(1)

# Writes without a pause: a fact that two tables must agree on, in one transaction.
WRITER = """
import sys
from pathlib import Path
from seshu_swarm.coordinator.state.database import Database
database = Database(Path(sys.argv[1]))
n = 0
while True:
    n += 1
    with database.open() as connection:
        connection.execute("REPLACE INTO facts VALUES ('n', ?)", (str(n),))
        connection.execute("REPLACE INTO decisions VALUES (1, 'n', ?)", (str(n),))
    if n == 1:
        print("writing", flush=True)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = opened(tmp_path_factory.mktemp("run") / "state", steps=2)
    digest = adapter_on(run, run.text("hi"), steps=1)
    publish_round(run, {digest: 1.0})
    return run


def said(capsys: pytest.CaptureFixture[str], folder: RunFolder) -> str:
    capsys.readouterr()
    status.run(StatusConfig(state_dir=str(folder.path)))
    return capsys.readouterr().out


def test_what_comes_back_is_the_run(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "copy.tar.gz", RunFolder(tmp_path / "restored")
    run.folder.scoring.mkdir(exist_ok=True)
    (run.folder.scoring / "job.json").write_text("{}")
    settings = BackupConfig(state_dir=str(run.folder.path), file=str(file), packages=True)
    assert backup.run(settings) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert restore.run(RestoreConfig(state_dir=str(folder.path), file=str(file))) == 0
    out = capsys.readouterr().out
    assert "Never run both copies" in out and "missing" not in out
    assert said(capsys, folder) == said(capsys, run.folder)
    assert verifying.run(VerifyConfig(state_dir=str(folder.path), what="1")) == 0
    for name in ("identity.key", "hold-outs/gate-1.jsonl", "pretraining/hi.jsonl"):
        assert (folder.path / name).read_bytes() == (run.folder.path / name).read_bytes()
        assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o600
    assert not (folder.path / CONTENTS).exists()
    assert not folder.lock.exists() and not folder.scoring.exists()


def test_a_ledger_that_is_written_meanwhile_is_copied_between_two_writes(
    run: Run, tmp_path: Path
) -> None:
    live = run.copy(tmp_path / "live")
    command = [sys.executable, "-c", WRITER, str(live.folder.ledger)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
        counts = []
        for k in range(5):
            file, folder = tmp_path / f"{k}.tar.gz", RunFolder(tmp_path / f"restored-{k}")
            write_backup(live.folder, file, with_packages=False)
            restore_backup(file, folder)
            connection = sqlite3.connect(folder.ledger)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            [(fact,)] = connection.execute("SELECT value FROM facts WHERE name = 'n'")
            [(decision,)] = connection.execute("SELECT value FROM decisions WHERE phase = 'n'")
            connection.close()
            assert fact == decision
            counts.append(int(fact))
            assert Ledger(folder.ledger).rounds() == run.ledger.rounds()
            while Ledger(live.folder.ledger).fact("n") == counts[-1]:
                assert writer.poll() is None
        assert writer.poll() is None and counts == sorted(set(counts))
    finally:
        writer.kill()
        writer.communicate()


def test_packages_that_are_missing_are_named(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "copy.tar.gz", RunFolder(tmp_path / "restored")
    write_backup(run.folder, file, with_packages=False)
    restore.run(RestoreConfig(state_dir=str(folder.path), file=str(file)))
    out = capsys.readouterr().out
    needed = {p.name for p in run.folder.packages.iterdir()}
    assert {line.strip() for line in out.splitlines() if len(line.strip()) == 64} == needed
    assert not folder.packages.exists()


def test_nothing_is_written_over(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "copy.tar.gz"
    write_backup(run.folder, file, with_packages=False)
    data = file.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        write_backup(run.folder, file, with_packages=False)
    with pytest.raises(UsageError, match="in the run's own folder"):
        write_backup(run.folder, run.folder.path / "copy.tar.gz", with_packages=False)
    with pytest.raises(UsageError, match="there is no folder"):
        write_backup(run.folder, tmp_path / "nowhere" / "copy.tar.gz", with_packages=False)
    with pytest.raises(UsageError, match="is not empty"):
        restore_backup(file, run.folder)
    assert file.read_bytes() == data
    with pytest.raises(UsageError, match="holds no run"):
        backup.run(BackupConfig(state_dir=str(tmp_path), file=str(tmp_path / "x.tar.gz")))


def repacked(
    source: Path,
    target: Path,
    change: Callable[[tarfile.TarInfo, bytes], list[tuple[tarfile.TarInfo, bytes]]],
) -> Path:
    """The archive with every member put through `change`."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            file = old.extractfile(member)
            for header, data in change(member, file.read() if file else b""):
                header.size = len(data)
                new.addfile(header, io.BytesIO(data))
    return target


def evil(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(header, field, value)
    return header, b""


@pytest.mark.parametrize(
    "member",
    [
        evil("../outside"),
        evil("/etc/seshu-was-here"),
        evil("hold-outs/../../outside"),
        evil("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        evil("hard", type=tarfile.LNKTYPE, linkname="identity.key"),
        evil("pipe", type=tarfile.FIFOTYPE),
        evil("folder", type=tarfile.DIRTYPE),
        evil("ledger.sqlite"),
    ],
    ids=lambda member: member[0].name,
)
def test_a_member_that_could_leave_the_folder_is_refused(
    run: Run, tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]
) -> None:
    good = tmp_path / "good.tar.gz"
    write_backup(run.folder, good, with_packages=False)
    bad = repacked(
        good,
        tmp_path / "bad.tar.gz",
        lambda header, data: [
            (header, data),
            *([member] if header.name == "ledger.sqlite" else []),
        ],
    )
    folder = RunFolder(tmp_path / "deep" / "restored")
    with pytest.raises(PackageError, match=r"file name|no plain file"):
        restore_backup(bad, folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.tar.gz", "deep", "good.tar.gz"]
    assert not list((tmp_path / "deep").iterdir())


def test_changed_lost_and_added_files_are_named(run: Run, tmp_path: Path) -> None:
    good = tmp_path / "good.tar.gz"
    write_backup(run.folder, good, with_packages=False)
    changed = repacked(
        good,
        tmp_path / "changed.tar.gz",
        lambda h, data: [(h, data[::-1] if h.name == "identity.key" else data)],
    )
    lost = repacked(
        good,
        tmp_path / "lost.tar.gz",
        lambda h, data: [] if h.name == "identity.key" else [(h, data)],
    )
    added = repacked(
        good,
        tmp_path / "added.tar.gz",
        lambda h, data: [evil("extra"), (h, data)] if h.name == CONTENTS else [(h, data)],
    )
    with pytest.raises(DigestError, match=r"'identity.key' was changed"):
        restore_backup(changed, RunFolder(tmp_path / "a"))
    with pytest.raises(PackageError, match=r"'identity.key' is only in backup.json"):
        restore_backup(lost, RunFolder(tmp_path / "a"))
    with pytest.raises(PackageError, match=r"'extra' is only in the archive"):
        restore_backup(added, RunFolder(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_what_is_no_backup_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "copy.tar.gz"
    write_backup(run.folder, file, with_packages=False)
    data = file.read_bytes()
    for wrong in (b"", b"hello", data[: len(data) // 2], data[: len(data) * 9 // 10]):
        (tmp_path / "wrong").write_bytes(wrong)
        with pytest.raises(PackageError, match=r"cannot be read as a backup|has no backup.json"):
            restore_backup(tmp_path / "wrong", RunFolder(tmp_path / "a"))

    def newer(header: tarfile.TarInfo, data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
        if header.name == CONTENTS:
            data = json.dumps(json.loads(data) | {"format": 2}).encode()
        return [(header, data)]

    with pytest.raises(PackageError, match="format 2"):
        restore_backup(repacked(file, tmp_path / "newer", newer), RunFolder(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_into_the_folder_where_one_stands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = tmp_path / "copy.tar.gz", tmp_path / "here"
    write_backup(run.folder, file, with_packages=False)
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert restore.run(RestoreConfig(state_dir=".", file=str(file))) == 0
    assert Ledger(folder / "ledger.sqlite").fact("run_id") == "seshu"


def test_what_lies_in_the_way_is_named_and_kept(run: Run, tmp_path: Path) -> None:
    file, left = tmp_path / "copy.tar.gz", tmp_path / "a.partial"
    write_backup(run.folder, file, with_packages=False)
    left.mkdir()
    (left / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"a\.partial is there already.*remove it"):
        restore_backup(file, RunFolder(tmp_path / "a"))
    assert (left / "thesis.txt").read_text() == "years of work" and not (tmp_path / "a").exists()


def test_status_shows_what_the_run_was_started_with(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = run.copy(tmp_path / "state")
    assert "unscored" not in said(capsys, copy.folder)
    copy.ledger.set_fact("max_detectable", 1e-9)
    copy.ledger.set_fact("gate_readings", 47)
    out = said(capsys, copy.folder)
    assert "unscored" in out and " 47 " in out
