"""What a newcomer waits for, against what the files on this disk say themselves."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from seshu_swarm.bench.newcomers.contributing import Contribution
from seshu_swarm.bench.newcomers.helping import _seconds, commands
from seshu_swarm.bench.newcomers.install import minutes_at_10_mbit, results_of, rows_of
from seshu_swarm.bench.newcomers.packages import Package, _size, base_requirements, packages_of
from seshu_swarm.errors import SeshuError
from seshu_swarm.program import cli


def test_every_role_and_command_is_asked_for_help() -> None:
    found = commands()
    for module in ("seshu_swarm", "seshu_swarm.peer", "seshu_swarm.client"):
        table: tuple[cli.Command, ...] = importlib.import_module(f"{module}.__main__").COMMANDS
        assert {(module, *one.name.split()) for one in table} | {(module,)} <= set(found)
    assert len(found) == len(set(found)) > 25


def test_a_command_without_help_is_an_error() -> None:
    with pytest.raises(SeshuError, match="ended with 2"):
        _seconds(("seshu_swarm", "no-such-command"))


def test_the_base_install_is_what_pyproject_asks_for_without_extras() -> None:
    names = {requirement.partition(">")[0] for requirement in base_requirements()}
    assert {"torch", "hivemind", "transformers"} <= names
    assert not names & {"pytest", "mkdocs", "gguf", "lm_eval"}


def test_a_file_s_size_is_the_disk_s(tmp_path: Path) -> None:
    wheel = tmp_path / "a b.whl"
    wheel.write_bytes(b"x" * 1_234)
    assert _size(wheel.as_uri()) == 1_234


def test_what_pip_cannot_find_is_said_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(SeshuError, match=r"pip found no answer: .*nothing-1-py3-none-any\.whl"):
        packages_of([str(tmp_path / "nothing-1-py3-none-any.whl")])


def test_an_index_that_does_not_answer_is_an_error(free_port: int) -> None:
    with pytest.raises(SeshuError, match=r"a\.whl cannot be asked for"):
        _size(f"http://127.0.0.1:{free_port}/a.whl")


def test_minutes_are_those_of_a_filled_link() -> None:
    """75 MB are 600 Mbit: a minute."""
    assert minutes_at_10_mbit(75e6) == pytest.approx(1.0)


CONTRIBUTE = """
import asyncio, dataclasses, json, sys
from pathlib import Path
from seshu_swarm.bench.newcomers.contributing import contribute
found = asyncio.run(contribute(Path(sys.argv[1]), d_model=32, num_blocks=2, max_steps=20))
print(json.dumps(dataclasses.asdict(found)))
"""


@pytest.mark.swarm
def test_a_contribution_counts_what_the_donor_fetched(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", CONTRIBUTE, str(tmp_path)]
    found = Contribution(**json.loads(subprocess.check_output(command, timeout=200)))
    packages = [path.name for path in (tmp_path / "donor/packages").iterdir()]
    # What was fetched lies with the coordinator too, under the same digest.
    there = {name: tmp_path / "run/packages" / name for name in packages}
    sizes = {
        n: sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for n, p in there.items()
    }
    (checkpoint,) = [size for name, size in sizes.items() if (there[name] / "config.json").exists()]
    assert set(found.fetched_bytes) == {"checkpoint", "text"}
    assert 0.9 * checkpoint < found.fetched_bytes["checkpoint"] <= checkpoint
    assert 10_000 < found.fetched_bytes["text"] <= sum(sizes.values()) - checkpoint
    assert found.adapter_bytes > 10_000 and found.seconds > 1
    wheels = [Package("torch", "2", 75_000_000), Package("other", "1", 7_500_000)]
    assert [row["megabytes"] for row in rows_of(wheels, found)][:2] == [75.0, 7.5]
    results = results_of(wheels, found)
    assert results["install_megabytes"] == 82.5
    assert results["first_contribution_minutes"] > 1.1 + found.seconds / 60
