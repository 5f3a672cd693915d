"""`python -m seshu_swarm plan`: the report holds what the table says; wrong input is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seshu_swarm import __main__
from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.planning import accelerators, measuring
from seshu_swarm.planning.config import PlanConfig
from seshu_swarm.planning.run import run
from seshu_swarm.planning.sizes import SIZES
from seshu_swarm.program import cli


def plan(*flags: str) -> int:
    return cli.main("seshu", __main__.COMMANDS, about="", arguments=["plan", *flags])


def test_table_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "plan.json"
    flags = ["--budget", "100", "--price", "2.0", "--gpu", "H100", "--mfu", "0.4"]
    assert plan(*flags, "--report", str(report)) == 0
    shown = capsys.readouterr().out
    table = json.loads(report.read_text())
    results = table["results"]
    assert table["command"] == "plan"
    assert table["size"] == "780m"
    assert results["gpu_hours"] == 50.0
    assert results["flops_per_second"] == pytest.approx(0.4 * 989e12)
    assert results["parameters"] == 777_140_800
    assert results["tokens"] == pytest.approx(50 * 3600 * 0.4 * 989e12 / 6 / 777_140_800)
    assert "777M" in shown and "15.3B bytes" in shown and "stated: 40%" in shown
    assert [row["size"] for row in table["rows"]] == list(SIZES)


def test_hours_instead_of_a_budget(tmp_path: Path) -> None:
    report = tmp_path / "plan.json"
    assert plan("--hours", "3", "--gpus", "8", "--price", "1.5", "--report", str(report)) == 0
    results = json.loads(report.read_text())["results"]
    assert (results["gpu_hours"], results["dollars"]) == (24.0, 36.0)


def test_events_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--log-format", "json") == 0
    assert json.loads(capsys.readouterr().out)["event"] == "plan"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--gpu", "h10o"), "did you mean 'h100'?"),
        (("--gpu", "abacus"), "--measure"),
        (("--budget", "-5"), "--budget -5.0; more than 0"),
        (("--budget", "nan"), "--budget nan; more than 0"),
        (("--price", "0"), "--price 0.0; more than 0"),
        (("--hours", "inf"), "--hours inf"),
        (("--mfu", "40"), "--mfu 40.0; a share"),
        (("--gpus", "0"), "--gpus 0"),
        (("--size", "1.5b"), "did you mean '1.4b'?"),
        (("--size", "1.4b", "--gpu", "t4"), "take a smaller --size"),
        (("--measure", "--mfu", "0.3"), "measured or stated"),
    ],
)
def test_wrong_input_is_named(
    flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(*flags) == UsageError.exit_code
    assert said in capsys.readouterr().err


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--gpu", "list") == plan("--size", "list") == 0
    shown = capsys.readouterr().out
    assert "h100-sxm: 989 TFLOP/s, 80 GB" in shown and "1.4b: 1,405,087,488" in shown


def test_names_of_gpus_are_forgiving() -> None:
    assert accelerators.find("RTX 4090") is accelerators.find("4090")
    for alias, name in accelerators.ALIASES.items():
        assert accelerators.find(alias).name == name


def test_this_machine_is_measured(tmp_path: Path) -> None:
    report = tmp_path / "plan.json"
    settings = PlanConfig(
        measure=True,
        measure_seconds=0.5,
        size="nano",
        max_threads=1,
        report=str(report),
        log_format="json",
    )
    assert run(settings) == 0
    table = json.loads(report.read_text())
    rate = table["results"]["flops_per_second"]
    # A nano has 515,712 parameters: 6 operations for each and a byte.
    tokens_per_second = rate / 6 / 515_712
    assert f"{tokens_per_second:,.0f} bytes/s" in table["source"]
    assert 50 < tokens_per_second < 1e9


def test_measuring_leaves_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    measuring.measure(MambaShape(d_model=32, num_blocks=2), seconds=0.05, max_threads=1)
    assert torch.equal(torch.rand(4), expected)
