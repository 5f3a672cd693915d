"""The scorer: a process that is handed random ids and tensors, and finds what we find here."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.adapters.rules import TARGETS, module_name
from seshu_swarm.coordinator.blind import results
from seshu_swarm.coordinator.blind.asking import Scorers
from seshu_swarm.coordinator.blind.held_out import read_held_out
from seshu_swarm.coordinator.blind.job import Job, Phase, read_job, write_job
from seshu_swarm.coordinator.blind.judging import budget_of, choose, conclude, decide
from seshu_swarm.coordinator.blind.search import SelectionRule, Trial
from seshu_swarm.data.holdout import Holdout, write_holdout
from seshu_swarm.data.text import Document, Row
from seshu_swarm.errors import DeadlineError, SeshuError
from seshu_swarm.evaluate.accept import AcceptRule
from seshu_swarm.evaluate.paired import alpha_of_test, z_of
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

SHAPE = MambaShape(d_model=16, num_blocks=2)
IDS = ("0011223344556677", "8899aabbccddeeff")
OWNER = "QmTheNameOfADonor"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scorer") / "base"
    torch.manual_seed(0)
    tensors = WholeModel(SHAPE).checkpoint_tensors()
    checkpoints.save_checkpoint(folder, shape=SHAPE, tensors=tensors, about={}, card="")
    return folder


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scorer") / "tuning-1.jsonl"
    rows = tuple(Row(f"गिनो {i}", "", f"उत्तर {i * i} है", "hi") for i in range(24))
    documents = tuple(Document(f"बहता हुआ पाठ {i} " * 3, "hi", f"d{i}") for i in range(8))
    write_holdout(path, Holdout({"hi": rows}, {"hi": documents}))
    return path


def adapter(seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: t.shape for name, t in WholeModel(SHAPE).checkpoint_tensors().items()}
    pairs = {}
    for block in range(SHAPE.num_blocks):
        for target in TARGETS:
            name = module_name(block, target)
            rows, columns = shapes[f"{name}.weight"]
            A = torch.randn(2, columns, generator=generator) * 0.1
            pairs[name] = (A, torch.randn(rows, 2, generator=generator) * 0.1)
    return Adapter("dd" * 32, 2, 1.5, pairs, {"by": OWNER})


@pytest.fixture(scope="module")
def candidates() -> dict[str, Adapter]:
    return {name: adapter(seed) for seed, name in enumerate(IDS)}


def job(phase: Phase, base: Path, held_out: Path, **facts: Any) -> Job:
    return Job(phase=phase, base=str(base), held_out=str(held_out), num_threads=1, **facts)


def test_a_job_comes_back_without_names(
    base: Path, held_out: Path, candidates: dict[str, Adapter], tmp_path: Path
) -> None:
    languages = dict.fromkeys(IDS, "hi")
    written = job(Phase.CHOOSE, base, held_out, seed=7, languages=languages)
    write_job(tmp_path / "job", written, candidates)
    found, back = read_job(tmp_path / "job")
    assert found == written and list(back) == sorted(candidates)
    for name, original in candidates.items():
        assert (back[name].rank, back[name].scale) == (original.rank, original.scale)
        assert back[name].about == {} and back[name].digest == name
        for module, (A, B) in original.pairs.items():
            assert torch.equal(back[name].pairs[module][0], A)
            assert torch.equal(back[name].pairs[module][1], B)
    for path in (tmp_path / "job").iterdir():
        data = path.read_bytes()
        assert OWNER.encode() not in data and ("dd" * 32).encode() not in data


def test_the_process_finds_what_we_find(
    base: Path, held_out: Path, candidates: dict[str, Adapter], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    scorers = Scorers(tmp_path, seconds=120.0)
    rule = SelectionRule(budget=budget_of(2), methods=("ties",))
    languages = dict.fromkeys(IDS, "hi")
    asked = job(Phase.CHOOSE, base, held_out, seed=3, rule=asdict(rule), languages=languages)
    answer = asyncio.run(scorers.ask(asked, candidates))
    windows = read_held_out(held_out)
    here = choose(base, windows, candidates, languages=languages, rule=rule, seed=3)
    assert results.selection_of_json(answer) == here
    assert answer["scorer_peak_bytes"] > 50e6 and answer["scorer_seconds"] > 0

    mixture = {"shares": [[IDS[0], 1.0]], "lam": 1.0, "method": "task_arithmetic", "settings": []}
    gate = AcceptRule()
    asked = job(Phase.DECIDE, base, held_out, rule=asdict(gate), mixture=mixture, test_index=4)
    answer = asyncio.run(scorers.ask(asked, candidates))
    word = decide(
        base,
        windows,
        candidates,
        results.mixture_of_json(mixture),
        test_index=4,
        rule=gate,
    )
    assert results.gate_of_json(answer) == word
    assert word.verdict.z == z_of(alpha_of_test(4))


def test_the_final_word_is_on_what_was_written(base: Path, held_out: Path, tmp_path: Path) -> None:
    tensors = checkpoints.load_tensors(base)
    published = tmp_path / "published"
    tensors["backbone.embeddings.weight"] = tensors["backbone.embeddings.weight"] * 0.5
    checkpoints.save_checkpoint(published, shape=SHAPE, tensors=tensors, about={}, card="")
    asked = job(Phase.CONCLUDE, base, held_out, published=str(published))
    answer = asyncio.run(Scorers(tmp_path, seconds=120.0).ask(asked, {}))
    word = conclude(base, published, read_held_out(held_out))
    assert results.final_of_json(answer) == word
    change = word.after["hi"] - word.before["hi"]
    assert change == pytest.approx(word.comparisons.gains["hi"].delta_bits_per_byte) and change != 0


def test_a_scorer_that_takes_too_long_is_ended_by_name(
    base: Path, held_out: Path, candidates: dict[str, Adapter], tmp_path: Path
) -> None:
    asked = job(Phase.CHOOSE, base, held_out, rule=asdict(SelectionRule()))
    with pytest.raises(DeadlineError, match=r"not done after 0\.2 s.*--score-seconds"):
        asyncio.run(Scorers(tmp_path, seconds=0.2).ask(asked, candidates))


def test_a_scorer_that_fails_says_why(
    base: Path, candidates: dict[str, Adapter], tmp_path: Path
) -> None:
    asked = job(Phase.CONCLUDE, base, tmp_path / "nowhere.jsonl")
    with pytest.raises(SeshuError, match=r"scorer ended with exit code.*nowhere\.jsonl"):
        asyncio.run(Scorers(tmp_path, seconds=60.0).ask(asked, {}))


def test_scores_that_are_not_finite_travel_as_null() -> None:
    trial = Trial(results.mixture_of_json(_mixture()), float("-inf"), float("inf"), ("hi",))
    table = json.loads(json.dumps(results._trial_json(trial), allow_nan=False))
    assert results._trial_of_json(table) == trial


def _mixture() -> dict[str, Any]:
    return {"shares": [[IDS[0], 1.0]], "lam": 1.0, "method": "ties", "settings": [["density", 0.2]]}


def test_the_job_s_folder_is_private(
    base: Path, held_out: Path, candidates: dict[str, Adapter], tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    for _ in range(2):
        write_job(folder, job(Phase.CHOOSE, base, held_out), candidates)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    fewer = {IDS[0]: dataclasses.replace(candidates[IDS[0]], scale=0.5)}
    write_job(folder, job(Phase.CHOOSE, base, held_out), fewer)
    assert list(read_job(folder)[1]) == [IDS[0]] and len(list(folder.iterdir())) == 2
