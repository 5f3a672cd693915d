"""The donors' notebook, top to bottom in a fresh kernel, before a real coordinator on loopback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from tests.conftest import TinyCheckpoint
from tests.swarms import Processes, open_run

NOTEBOOK = Path(__file__).parents[2] / "deploy/donor.ipynb"
RUN_SECONDS = 200


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_it_needs_three_cells_and_holds_no_output_and_no_address() -> None:
    cells = code_cells(NOTEBOOK)
    assert len(cells) == 3
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]
    assert not re.search(r"https?://|hf_\w{8}", NOTEBOOK.read_text(encoding="utf-8"))


def execute(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """All cells in order, in a kernel whose environment has the settings; the copy keeps the output."""
    program = Path(sys.executable).with_name("jupyter-execute")
    return subprocess.run(
        [program, "--inplace", "--allow-errors", str(folder / NOTEBOOK.name)],
        cwd=folder,
        env=os.environ | {"JUPYTER_PLATFORM_DIRS": "1"} | settings,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


@pytest.mark.swarm
def test_a_donor_contributes_from_it(tiny: TinyCheckpoint, tmp_path: Path) -> None:
    """Installed is what runs this test: pip finds the requirement satisfied and fetches nothing."""
    run, there = tmp_path / "run", tmp_path / "there"
    there.mkdir()
    shutil.copy(NOTEBOOK, there)
    open_run(tiny.folder, run)
    with Processes(tmp_path / "swarm") as processes:
        coordinator = processes.coordinator(run, "--close-after", "1", "--rounds", "1")
        link = coordinator.ready(seconds=60)["link"]
        flags = "--host 127.0.0.1 --max-steps 30 --max-threads 1"
        done = execute(there, SESHU_LINK=link, SESHU_LICENCE="CC0-1.0", SESHU_FLAGS=flags)
        assert done.returncode == 0, done.stderr[-2000:]
    *_, last = cells = code_cells(there / NOTEBOOK.name)
    assert [cell.execution_count for cell in cells] == [1, 2, 3], said(last)
    assert not [one for cell in cells for one in cell.outputs if one.output_type == "error"], said(
        last
    )
    assert "the adapter will be under CC0-1.0" in said(last)
    handed_in = re.search(r"handed in swarm://sha256/([0-9a-f]{64})", said(last))
    assert handed_in and re.search(r"^(accepted|rejected): ", said(last), flags=re.MULTILINE)
    assert Ledger(RunFolder(run).ledger).adapter(handed_in[1]) is not None


@pytest.mark.swarm
def test_a_link_that_was_not_filled_in_is_said_and_the_cell_fails(tmp_path: Path) -> None:
    shutil.copy(NOTEBOOK, tmp_path)
    assert execute(tmp_path).returncode == 0
    *_, last = code_cells(tmp_path / NOTEBOOK.name)
    assert "copy the whole link that the coordinator printed" in said(last)
    assert [one.evalue[:12] for one in last.outputs if one.output_type == "error"] == [
        "exit code 11"
    ]
