"""A tiny recorded run: two rounds decided by direct calls, each phase noted as a round notes it.

Round 1 has an adapter that helps in each language, one that harms and one of a wrong language, and
publishes; round 2 has only harm, on the new base, and publishes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm import checkpoints
from seshu_swarm.adapters.clipping import clipped
from seshu_swarm.adapters.delta import adapter_norm
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.coordinator.blind import judging, results
from seshu_swarm.coordinator.blind.held_out import read_held_out
from seshu_swarm.coordinator.blind.scoring import HeldOut
from seshu_swarm.coordinator.blind.search import SelectionRule
from seshu_swarm.coordinator.blind.selecting import Selection
from seshu_swarm.coordinator.releasing import publish
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.screening import norm_limit
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.decisions import Decisions
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.ledger import Judgement, Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.jsonl import document_line
from seshu_swarm.data.phrasebook import build
from seshu_swarm.data.splits import SplitSizes, split
from seshu_swarm.evaluate.accept import AcceptRule
from tests.coordinator.runs import Run, adapter_on, hand_in, pretrained

LANGUAGES = ("hi", "ta")
SIZES = SplitSizes(
    tuning_rows=22,
    gate_rows=30,
    final_rows=22,
    tuning_documents=5,
    gate_documents=6,
    final_documents=5,
)
MAX_DETECTABLE = 0.5  # the held-out sets are tiny
MIN_GAIN = 0.002
NO_HARM = 0.25 * AcceptRule().no_harm_margin


@dataclass(frozen=True)
class Recorded:
    """`helpful`, `harmful`: digests of round 1; `members`: what round 1 merged, by digest."""

    run: Run
    helpful: tuple[str, ...]
    harmful: tuple[str, ...]
    members: frozenset[str]
    revision: str


def recorded(path: Path) -> Recorded:
    run = _opened(path)
    texts = {language: run.text(language) for language in LANGUAGES}
    helpful = {adapter_on(run, found, seed=1): language for language, found in texts.items()}
    harmful = {
        adapter_on(run, texts["hi"], seed=2, sign=-1.0): "hi",
        adapter_on(run, texts["ta"], seed=3, sign=-1.0): "hi",
    }
    first = _hold(run, helpful | harmful)
    if first is None:
        raise AssertionError("round 1 published nothing")
    selection, revision = first
    _hold(run, {adapter_on(run, texts["ta"], seed=4, sign=-1.0): "ta"})
    return Recorded(run, tuple(helpful), tuple(harmful), frozenset(selection), revision)


def _opened(path: Path) -> Run:
    """Opened with a secret that is always the same, so that every run of the tests is the same."""
    folder = RunFolder(path)
    ledger = Ledger(_made(folder.ledger))
    parts = split(build(LANGUAGES, 0), languages=LANGUAGES, secret=b"recorded" * 4, sizes=SIZES)
    hold_outs = HoldOuts(folder, ledger.database)
    for role in Role:
        hold_outs.add(role, getattr(parts, role))
    for language, documents in parts.pretrain.items():
        lines = "".join(map(document_line, documents))
        _made(folder.pretraining / f"{language}.jsonl").write_text(lines, encoding="utf-8")
    ledger.set_fact("languages", list(LANGUAGES))
    ledger.set_fact("run_id", "recorded")
    return pretrained(path)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _hold(run: Run, handed: Mapping[str, str]) -> tuple[list[str], str] | None:
    """The round's members by digest and its revision, or None where nothing was chosen."""
    ledger, parent = run.ledger, run.head
    current = ledger.begin_round(parent=parent, seed=len(ledger.rounds()) + 7, closes_at=0.0)
    for digest, language in handed.items():
        hand_in(run, digest, language=language)
    checking, candidates = _check(run, current, handed)
    selection = _select(run, current, candidates, checking["languages"])
    if not selection.mixture.shares:
        ledger.end_round(current, RoundState.ABORTED, judgements=(), reason="nothing better")
        return None
    members = [checking["ids"][name] for name in selection.mixture.ids]
    revision = _publish(run, current, candidates, selection, checking)
    for state in list(RoundState)[1:6]:
        ledger.move_round(current.number, state)
    accepted = [Judgement(digest, "accepted", "MERGED", "", "") for digest in members]
    ledger.end_round(current, RoundState.PUBLISHED, judgements=accepted, revision=revision)
    return members, revision


def _check(
    run: Run, current: Round, handed: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Adapter]]:
    shape = checkpoints.read_shape(run.folder.package(current.parent))
    adapters = {d: gather.read_again(run.folder.adapter(d), d, shape) for d in handed}
    ids = gather.strip_names(list(adapters), current.seed)
    languages = gather.languages_of(run.ledger, ids)
    max_norm = norm_limit([adapter_norm(adapter) for adapter in adapters.values()])
    scored = sorted({*languages.values()})
    found = {"ids": ids, "languages": languages, "max_norm": max_norm, "scored": scored}
    _note(run, current, RoundState.CHECKING, found)
    return found, {i: clipped(adapters[digest], max_norm=max_norm) for i, digest in ids.items()}


def _select(
    run: Run, current: Round, candidates: Mapping[str, Adapter], languages: Mapping[str, str]
) -> Selection:
    selection = judging.choose(
        run.folder.package(current.parent),
        held_out(run, Role.TUNING),
        candidates,
        languages=languages,
        rule=SelectionRule(
            budget=judging.budget_of(len(candidates)),
            min_gain=MIN_GAIN,
            no_harm=NO_HARM,
            methods=("ties",),
        ),
        seed=current.seed,
    )
    _note(run, current, RoundState.SELECTING, results.selection_json(selection))
    return selection


def _publish(
    run: Run,
    current: Round,
    candidates: Mapping[str, Adapter],
    selection: Selection,
    checking: Mapping[str, Any],
) -> str:
    mixture = selection.mixture
    word = judging.decide(
        run.folder.package(current.parent),
        held_out(run, Role.GATE),
        candidates,
        mixture,
        test_index=1,
        rule=AcceptRule(max_detectable=MAX_DETECTABLE),
    )
    facts = {"hold_out": "gate-1", "reading": 1}
    _note(run, current, RoundState.GATING, results.gate_json(word) | facts)
    recipe = publish.recipe_of(
        mixture, checking["ids"], parent=current.parent, round_number=current.number
    )
    delta = mixture.delta(judging.deltas_of(candidates))
    return publish.write_merged(run.folder, delta, recipe | {"max_norm": checking["max_norm"]})


def held_out(run: Run, role: Role) -> HeldOut:
    sets = HoldOuts(run.folder, run.ledger.database)
    return read_held_out(sets.path(sets.in_use(role).name))


def _note(run: Run, current: Round, state: RoundState, found: dict[str, Any]) -> None:
    Decisions(run.ledger.database).note(current.number, state, found)
