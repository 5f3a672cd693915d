"""The line of revisions as one reader saw it: one successor each, over restarts too."""

from __future__ import annotations

from pathlib import Path

import pytest

from seshu_swarm.errors import ForkError
from seshu_swarm.network import identity
from seshu_swarm.network.identity import Identity
from seshu_swarm.network.line import LINE_FILE, MAX_REVISIONS, Line
from seshu_swarm.records.kinds import RunRecord
from tests.samples import run_record


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity.load_or_create(tmp_path_factory.mktemp("owner"))


def step(owner: Identity, parent: int | None, revision: int) -> RunRecord:
    name = None if parent is None else f"{parent:012x}" + 52 * "0"
    return run_record(owner, parent=name, revision=f"{revision:012x}" + 52 * "0")


def test_a_line_goes_on_and_a_base_has_no_parent(owner: Identity) -> None:
    line = Line("run")
    for number in range(1, 5):
        line.follow(step(owner, number, number + 1))
        line.follow(step(owner, number, number + 1))
    # Another base is another run's matter: nothing says what it should have followed.
    line.follow(step(owner, None, 7))
    line.follow(step(owner, None, 8))


def test_two_successors_of_one_revision_are_named(owner: Identity) -> None:
    line = Line("run")
    line.follow(step(owner, 1, 2))
    with pytest.raises(ForkError, match=r"two signed successors of 0+1: 0+2 and 0+3;"):
        line.follow(step(owner, 1, 3))
    # It stays forked: neither branch is followed any further.
    for parent, revision in ((1, 2), (1, 3), (2, 4), (3, 5)):
        with pytest.raises(ForkError, match=r"two signed successors of 0+1: 0+2 and 0+3;"):
            line.follow(step(owner, parent, revision))


def test_a_restart_forgets_nothing_and_another_run_is_another_line(
    owner: Identity, tmp_path: Path
) -> None:
    Line("run", tmp_path).follow(step(owner, 1, 2))
    Line("other", tmp_path).follow(step(owner, 1, 3))
    Line("run", tmp_path).follow(step(owner, 2, 4))
    with pytest.raises(ForkError):
        Line("run", tmp_path).follow(step(owner, 1, 3))
    with pytest.raises(ForkError, match=r"successors of 0+1"):
        Line("run", tmp_path).follow(step(owner, 4, 5))
    Line("other", tmp_path).follow(step(owner, 1, 3))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"run": 3}', "\x00", '{"run": null}', '{"run": {"line": 3}}']
)
def test_a_file_that_says_nothing_is_no_line(owner: Identity, tmp_path: Path, text: str) -> None:
    (tmp_path / LINE_FILE).write_text(text)
    line = Line("run", tmp_path)
    line.follow(step(owner, 1, 2))
    with pytest.raises(ForkError):
        Line("run", tmp_path).follow(step(owner, 1, 3))


def test_a_line_does_not_grow_for_ever(owner: Identity) -> None:
    line = Line("run")
    for number in range(MAX_REVISIONS + 2):
        line.follow(step(owner, number + 1, number + 2))
    # The oldest is forgotten, the newest is not.
    line.follow(step(owner, 1, 9_999))
    with pytest.raises(ForkError):
        line.follow(step(owner, MAX_REVISIONS + 2, 9_999))
