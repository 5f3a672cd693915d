"""The command as a person runs it: tables, report, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seshu_swarm.__main__ import COMMANDS
from seshu_swarm.evaluate.floors.ngram import ngram_nats
from seshu_swarm.program import cli
from tests.evaluate.nano import write_folder, write_lines, write_model


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("evaluate")
    write_model(place / "nano")
    write_model(place / "other", seed=1)
    write_folder(place / "data")
    return place


def evaluate(*arguments: object) -> int:
    return cli.main("seshu_swarm", COMMANDS, about="", arguments=["evaluate", *map(str, arguments)])


def test_two_models_and_floors(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, plot = place / "report.json", place / "plot.png"
    given = ("--data", place / "data", "--max-bytes", 1500, "--report", report, "--plot", plot)
    assert evaluate(place / "nano", "--against", place / "other", *given) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("nano", "other", "5-gram", "PPMd", "xz", "mean"))
    told = json.loads(report.read_text())
    hindi = told["rows"][0]
    assert (hindi["language"], hindi["bytes"] <= 1500) == ("hi", True)
    assert hindi["scores"]["nano"]["low"] < hindi["scores"]["nano"]["bits_per_byte"]
    gap = hindi["differences"]["other"]["delta_bits_per_byte"]
    levels = [hindi["scores"][name]["bits_per_byte"] for name in ("nano", "other")]
    assert gap == pytest.approx(levels[0] - levels[1])
    assert told["results"]["languages_better_than xz"] == 0  # random weights


def test_floors_read_the_training_text_first(place: Path) -> None:
    line = [{"lang": "hi", "text": "राम घर जाता है। " * 3}]
    file = write_lines(place / "one.jsonl", line)
    report = place / "trained.json"
    given = ("--data", file, "--train", file, "--floors", "ngram,xz", "--ngram", 3)
    assert evaluate(place / "nano", *given, "--report", report) == 0
    scores = json.loads(report.read_text())["rows"][0]["scores"]
    data = str(line[0]["text"]).encode()
    expected = ngram_nats([data], [data], order=3)[0] / len(data) / 0.6931471805599453
    assert scores["3-gram"]["bits_per_byte"] == pytest.approx(expected)
    assert scores["xz"]["bits_per_byte"] < 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nano",), 2, "nothing to evaluate on"),
        (("nano", "--data", "data", "--languages", "gu"), 20, "no text in 'gu'"),
        (("nano", "--data", "data", "--floors", "zip"), 2, "use ngram or ppmd or xz"),
        (("data", "--data", "data"), 40, "has no config.json"),
        (("nano", "--data", "data", "--max-bytes", "3"), 2, "--max-bytes 3; 4 or more"),
        (("nano", "--data", "data", "--score", "answers"), 20, "no answers"),
        (("nano", "--tasks", "hellaswag"), 2, "no task at 'hellaswag'"),
        (("nano", "--tasks", "data", "--plot", "a.png"), 2, "--plot without --data"),
        (("nano", "--data", "data", "--score", "answers", "--prove"), 2, "--prove without"),
        (("org/model", "--data", "data"), 2, "hf download org/model"),
    ],
)
def test_refusals(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(place)
    assert evaluate(*arguments) == code
    assert said in capsys.readouterr().err
