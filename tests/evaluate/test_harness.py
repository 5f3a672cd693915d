"""Our LM class of lm-evaluation-harness against sums over single tokens."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm.evaluate.models.ours import OurModel
from seshu_swarm.evaluate.models.scoring import text_nats
from tests.evaluate.nano import text, write_lines, write_model
from tests.evaluate.test_evaluate_command import evaluate

pytest.importorskip("lm_eval", reason="the extra `evaluation` is not installed")

from seshu_swarm.evaluate.tasks.harness import HarnessModel
from seshu_swarm.evaluate.tasks.items import read_task
from seshu_swarm.evaluate.tasks.running import run_tasks


@dataclass
class Request:
    args: tuple[Any, ...]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OurModel:
    return OurModel.open(write_model(tmp_path_factory.mktemp("harness") / "nano"), "nano")


def by_tokens(model: OurModel, before: list[int], after: list[int]) -> float:
    """One forward a token; the context has no end token, the continuation all of its bytes."""
    total = 0.0
    for place in range(len(after)):
        logits = model.logits(torch.tensor([before + after[:place]]))[0, -1]
        total += float(logits.double().log_softmax(-1)[after[place]])
    return total


PAIRS = [("नमस्ते", " दुनिया"), ("", "abc"), ("Q: a\nA:", " b"), ("x" * 40, "y")]


def test_likelihoods_equal_one_token_at_a_time(model: OurModel) -> None:
    found = HarnessModel(model).loglikelihood([Request(pair) for pair in PAIRS])
    for (context, continuation), (logprob, _) in zip(PAIRS, found, strict=True):
        before = [byte + 3 for byte in context.encode()] or [1]
        after = [byte + 3 for byte in continuation.encode()]
        assert logprob == pytest.approx(by_tokens(model, before, after), rel=1e-5)


def test_what_greedy_decoding_gives_is_called_greedy(model: OurModel) -> None:
    ids = list(itertools.islice(model.greedy(model.before("ab")), 6))
    assert ids == model.whole.generate_greedy(model.encode("ab"), max_new_tokens=6)
    lm = HarnessModel(Spelled(model, ids))  # type: ignore[arg-type]
    (same,), (other,) = (
        lm.loglikelihood([Request(("ab", name))]) for name in ("greedy", "greedy but")
    )
    assert (same[1], other[1]) == (True, False)


class Spelled:
    """A model whose texts that begin with "greedy" have the given ids."""

    def __init__(self, model: OurModel, ids: list[int]) -> None:
        self._model, self._ids = model, ids
        self.max_tokens, self.before, self.logits = None, model.before, model.logits

    def encode(self, content: str) -> list[int]:
        return self._ids + self._model.encode(content.removeprefix("greedy"))


def test_rolling_is_the_score_of_the_text(model: OurModel) -> None:
    whole = "நீலம் " * 60
    (found,) = HarnessModel(model).loglikelihood_rolling([Request((whole,))])
    assert found == pytest.approx(-text_nats(model, [text(whole)])[0])


def test_generation_ends_at_a_stop_text_or_a_limit(model: OurModel) -> None:
    lm = HarnessModel(model)
    (whole,) = lm.generate_until([Request(("ab", {"until": ["never"], "max_gen_toks": 12}))])
    assert whole == model.decode(model.whole.generate_greedy(model.encode("ab"), max_new_tokens=12))
    (cut,) = lm.generate_until([Request(("ab", {"until": whole[1:2], "max_gen_toks": 12}))])
    assert cut == whole[: whole.index(whole[1:2])]


CHOICES = [
    {"question": f"{n}?", "choices": ["aa", "b", "ccc"], "answer": n % 3, "language": "en"}
    for n in range(9)
]


def test_a_task_scores_what_likelihoods_say(model: OurModel, tmp_path: Path) -> None:
    task = read_task(write_lines(tmp_path / "choices.jsonl", CHOICES))
    right = normalised = 0
    for item in task.items:
        sums = [by_tokens(model, model.encode(item.prompt), model.encode(t)) for t in item.targets]
        right += sums.index(max(sums)) == item.right
        per_character = [s / len(t) for s, t in zip(sums, item.targets, strict=True)]
        normalised += per_character.index(max(per_character)) == item.right
    scores = run_tasks(HarnessModel(model), [task])["choices"]
    assert scores["acc"] == pytest.approx(right / 9)
    assert scores["acc_norm"] == pytest.approx(normalised / 9)
    assert scores["items"] == 9


class Parrot(HarnessModel):
    """Says one thing."""

    def generate_until(self, requests: list[Any]) -> list[str]:
        return ["Sita and Ram" for _ in requests]


def test_a_generated_answer_is_held_against_all_that_are_right(
    model: OurModel, tmp_path: Path
) -> None:
    answers = [["Ram", "Sita and Ram."], ["Ram"]]
    tables = [{"question": "Who?", "context": "Ram came.", "answer": one} for one in answers]
    task = read_task(write_lines(tmp_path / "who.jsonl", tables))
    scores = run_tasks(Parrot(model), [task])["who"]
    assert scores["exact_match"] == 0.5
    assert scores["f1"] == pytest.approx((1 + 0.5) / 2)


def test_the_command_runs_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "nano")
    write_lines(tmp_path / "tasks" / "choices.jsonl", CHOICES)
    assert evaluate("nano", "--tasks", "tasks", "--limit", 4, "--report", "r.json") == 0
    assert "acc_norm" in capsys.readouterr().out
    tasks = json.loads((tmp_path / "r.json").read_text())["tasks"]["nano"]
    assert tasks["choices"]["items"] == 4
    assert evaluate("nano", "--tasks", "hellaswag") == 2
