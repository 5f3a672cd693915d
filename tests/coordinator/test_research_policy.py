"""A policy's file: loaded, called, refused with the line where it went wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.coordinator.blind.search import SelectionRule, TuningScore
from seshu_swarm.coordinator.blind.selecting import select
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.research.config import SimulateConfig
from seshu_swarm.coordinator.research.policy import Policy, load_policy
from seshu_swarm.coordinator.research.seeing import Candidate, Gate, Meter, PolicyRound, checked
from seshu_swarm.errors import UsageError
from seshu_swarm.evaluate.accept import gate

WORTH = {"a": 0.4, "b": 0.2, "c": -0.3}


def worth(mixture: Mixture) -> TuningScore:
    """Additive and exact: λ · Σ share · worth."""
    gain = mixture.lam * sum(share * WORTH[name] for name, share in mixture.shares)
    return TuningScore({"hi": gain, "ta": 0.0}, {"hi": 0.0, "ta": 0.0})


def round_of(budget: int = 20) -> PolicyRound:
    rule = SelectionRule(budget=budget, min_gain=0.01)
    return PolicyRound(
        number=1,
        seed=5,
        languages=("hi", "ta"),
        candidates=tuple(Candidate(name, "hi", 1.0) for name in sorted(WORTH)),
        rule=rule,
        _meter=Meter(worth, budget),
        _search=lambda score, within: select(score, WORTH, duplicates={}, rule=within),
    )


def policy_of(folder: Path, text: str) -> Policy:
    path = folder / "mine.py"
    path.write_text(text)
    return load_policy(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no function `policy`"),
        ("policy = 3", "no function `policy`"),
        ("def policy(round): ...\naccept = 1", "no function `policy`"),
        ("def policy(round)\n", r"mine.py line 1: SyntaxError"),
        ("x = 1\ny = x / 0\n", r"mine.py line 2: ZeroDivisionError: division by zero"),
        ("import no_such_module_of_ours", r"mine.py line 1: ModuleNotFoundError"),
    ],
)
def test_a_file_without_a_policy_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        policy_of(tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.py: no such file"):
        load_policy(tmp_path / "nowhere.py")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "the policy chose 3; a policy returns a Mixture"),
        ("return ['a']", "the policy chose list"),
        ("return {}['key']", r"mine.py line 4: KeyError: 'key'"),
        ("return Mixture((('z', 1.0),))", "a mixture of 'z'; every member is a candidate"),
        ("return Mixture((('a', 0.5), ('a', 0.5)))", "named once"),
        ("return Mixture((('a', float('nan')),))", "no finite number"),
        ("return Mixture((('a', 1.0),), float('inf'))", "no finite number"),
        ("return round.mixture('a', method='best')", r"line 4: no merge method 'best'; one of"),
        ("return round.mixture('a', density=1)", r"with 'density'; its settings: none"),
        ("return round.mixture('a', method='greedy_soup')", "with a score"),
        ("return round.mixture({'a': -1})", "shares with the sum -1"),
        ("return round.score(round.mixture('y'))", "a mixture of 'y'"),
    ],
)
def test_what_is_no_mixture_of_the_round_is_refused(
    tmp_path: Path, body: str, message: str
) -> None:
    head = "from seshu_swarm.adapters.merge.mixture import Mixture\n\ndef policy(round):\n    "
    with pytest.raises(UsageError, match=message):
        policy_of(tmp_path, head + body).choose(round_of())


def test_shares_sum_to_one_and_are_sorted() -> None:
    seen = round_of()
    assert seen.mixture(["b", "a"], lam=2.0) == Mixture((("a", 0.5), ("b", 0.5)), 2.0)
    weighted = seen.mixture({"b": 3, "a": 1}, method="ties", density=0.5)
    assert weighted == Mixture((("a", 0.25), ("b", 0.75)), 1.0, "ties", (("density", 0.5),))
    assert seen.mixture([]) == Mixture()


@pytest.mark.parametrize("found", [None, Mixture()])
def test_nothing_and_a_mixture_of_nobody_publish_nothing(found: Any) -> None:
    assert checked(found, WORTH) is None


def test_scores_are_counted_once_each() -> None:
    seen = round_of(budget=2)
    assert seen.gain(seen.mixture("a")) == pytest.approx(0.2)  # the mean over hi and ta
    assert seen.gain(seen.mixture("a")) == pytest.approx(0.2) and seen.scores_left == 1
    assert seen.score(seen.mixture("c")).gain == {"hi": pytest.approx(-0.3), "ta": 0.0}
    assert seen.gain(Mixture()) == 0.0 and seen.scores_left == 0
    with pytest.raises(UsageError, match=r"more than 2 scores.*--score-calls"):
        seen.score(seen.mixture("b"))


def test_the_default_is_the_search_within_what_is_left() -> None:
    found = round_of().default()
    assert found is not None and found.ids == ("a", "b")  # c harms
    poor = round_of(budget=3)
    poor.score(poor.mixture("ab"))
    assert poor.default() is not None and poor.scores_left == 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("def accept(gate): return True", True),
        ("def accept(gate): return not gate.gains and gate.test_index == 4", True),
        ("def accept(gate): return gate.default.accepted", False),
    ],
)
def test_the_gate_s_word_is_the_policy_s_where_it_has_one(
    tmp_path: Path, accept: str, expected: bool
) -> None:
    own = gate({}, {}, test_index=4)
    policy = policy_of(tmp_path, f"def policy(round): ...\n{accept}\n")
    assert policy.accept(Gate(gains={}, harms={}, test_index=4, default=own)) is expected


@pytest.mark.parametrize(
    ("body", "message"),
    [("return 1", "accept gave 1; True or False"), ("return gate.nothing", "line 2: AttributeErr")],
)
def test_a_gate_that_says_neither_is_refused(tmp_path: Path, body: str, message: str) -> None:
    policy = policy_of(tmp_path, f"def policy(round): ...\ndef accept(gate): {body}\n")
    own = gate({}, {}, test_index=1)
    with pytest.raises(UsageError, match=message):
        policy.accept(Gate(gains={}, harms={}, test_index=1, default=own))


def test_an_interruption_passes_through(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, "def policy(round): raise KeyboardInterrupt\n")
    ask: Callable[[], object] = lambda: policy.choose(round_of())
    with pytest.raises(KeyboardInterrupt):
        ask()


def test_a_simulation_s_defaults_are_those_of_a_run() -> None:
    simulated, run = SimulateConfig(policy="p.py"), RunConfig()
    for name in ("methods", "min_gain", "max_detectable", "score_calls"):
        assert getattr(simulated, name) == getattr(run, name)
