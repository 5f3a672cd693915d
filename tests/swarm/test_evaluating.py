"""A model scored through the swarm and through the gateway, against the same folder here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm.__main__ import COMMANDS
from seshu_swarm.evaluate.models.opening import open_model
from seshu_swarm.program import cli
from tests.conftest import TinyCheckpoint
from tests.evaluate.nano import write_folder
from tests.swarms import Processes, open_run

pytestmark = pytest.mark.swarm

PAIRS = [("नमस्ते", " दुनिया"), ("Q: a\nA:", " b"), ("x" * 30, "yz")]


@dataclass
class Request:
    args: tuple[Any, ...]


@pytest.fixture(scope="module")
def swarm(
    tiny: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Processes, str]]:
    """A coordinator that has published the tiny model, and a host of all its blocks."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluating")
    open_run(tiny.folder, folder / "run")
    with Processes(folder) as processes:
        coordinator = processes.coordinator(folder / "run", "--round-seconds", "600")
        link = coordinator.ready(seconds=60)["link"]
        processes.host(link, "0:4", "--max-threads", "1").ready(seconds=60)
        yield processes, link


def where(processes: Processes, name: str) -> tuple[str, ...]:
    return ("--state-dir", str(processes.folder / name), "--host", "127.0.0.1")


def test_a_swarm_scores_as_its_folder(
    swarm: tuple[Processes, str], tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    processes, link = swarm
    data, report = write_folder(tmp_path / "data", ("hi",), documents=2), tmp_path / "report.json"
    given = ["evaluate", link, "--against", str(tiny.folder), "--floors", "none"]
    given += ["--data", str(data), "--report", str(report), *where(processes, "scorer")]
    assert cli.main("seshu_swarm", COMMANDS, about="", arguments=given) == 0
    scores = json.loads(report.read_text())["rows"][0]["scores"]
    through, here = scores["swarm"], scores[tiny.folder.name]
    assert through["bits_per_byte"] == pytest.approx(here["bits_per_byte"], rel=1e-6)


def test_the_gateway_gives_the_harness_the_same_scores(
    swarm: tuple[Processes, str], tiny: TinyCheckpoint
) -> None:
    pytest.importorskip("lm_eval", reason="the extra `evaluation` is not installed")
    pytest.importorskip("tenacity", reason="the extra `evaluation` is not installed")
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    from seshu_swarm.evaluate.tasks.harness import HarnessModel

    processes, link = swarm
    flags = ("--http-port", "0", "--join", link, *where(processes, "gateway"))
    url = processes.start("seshu_swarm.client", "serve", *flags).ready(seconds=60)["url"]
    theirs = LocalCompletionsAPI(
        base_url=f"{url}/completions",
        model="seshu",
        tokenizer=str(tiny.folder),
        tokenizer_backend="huggingface",
    )
    requests = [Request(pair) for pair in PAIRS]
    mine = HarnessModel(open_model(str(tiny.folder))).loglikelihood(requests)
    found = theirs.loglikelihood(requests)
    for (logprob, is_greedy), (other, is_other_greedy) in zip(mine, found, strict=True):
        assert other == pytest.approx(logprob, rel=1e-6)
        assert is_other_greedy == is_greedy
