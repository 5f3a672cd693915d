"""Methods that `run --methods` takes, and those that it refuses before anything starts."""

from __future__ import annotations

import pytest

from seshu_swarm.adapters.merge.registry import MERGE_METHODS
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.lifecycle import check_methods, run
from seshu_swarm.errors import UsageError


def test_every_method_that_merges_given_members_is_taken() -> None:
    names = [method.name for method in MERGE_METHODS if not method.needs_score]
    assert {"ties", "centred_clip", "fedit"} <= set(names)
    check_methods(names)
    check_methods(RunConfig().methods)


@pytest.mark.parametrize("name", ["greedy_soup", "lorahub"])
def test_a_method_that_chooses_members_itself_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--methods {name}.*chooses members itself"):
        check_methods(["ties", name])


def test_an_unknown_method_is_named_before_the_run_is_opened() -> None:
    with pytest.raises(UsageError, match=r"no merge method 'nosuch'.*one of linear"):
        run(RunConfig(state_dir="/nowhere", methods=("nosuch",)))
