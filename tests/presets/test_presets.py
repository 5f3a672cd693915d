"""Every preset is what its command accepts, and what it says of its model is true."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm import __main__
from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.planning import arithmetic, sizes
from seshu_swarm.presets.catalogue import FOLDER, Preset, all_presets, find, read
from seshu_swarm.program import cli, config

PRESETS = all_presets()
BASES = [preset for preset in PRESETS if preset.num_parameters]
SAID = re.compile(r"A base of ([\d,]+) parameters on ([\d,]+) bytes, 20 for each parameter:")
STEP = re.compile(r"# ([\d,]+) bytes a step;")


def settings_of(preset: Preset) -> Any:
    """Loaded as the command's own line does."""
    _, _, module, name = preset.command.split()
    commands = importlib.import_module(f"{module}.__main__").COMMANDS
    command = next(command for command in commands if command.name == name)
    return config.load(command.settings, {}, preset.path)


def by_name(preset: Preset) -> str:
    return preset.name


def test_there_is_one_for_each_size_and_each_kind_of_training() -> None:
    names = {preset.name for preset in PRESETS}
    assert {f"pretrain-{size}" for size in sizes.SIZES} <= names
    assert {"continued", "sft", "federated", "train", "trainer"} <= names
    assert len(names) == len(list(FOLDER.glob("*.toml")))


@pytest.mark.parametrize("preset", PRESETS, ids=by_name)
def test_its_command_takes_every_setting(preset: Preset) -> None:
    settings = settings_of(preset)
    written = tomllib.loads(preset.path.read_text(encoding="utf-8"))
    assert written
    for key, value in written.items():
        assert getattr(settings, key) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("preset", BASES, ids=by_name)
def test_the_parameters_that_it_names_are_those_of_the_model(preset: Preset) -> None:
    settings = settings_of(preset)
    shape = MambaShape(d_model=settings.d_model, num_blocks=settings.num_blocks)
    with torch.device("meta"):
        model = WholeModel(shape)
    counted = sum(parameter.numel() for parameter in model.parameters())
    said = SAID.search(preset.path.read_text(encoding="utf-8"))
    assert said is not None
    assert number(said[1]) == counted == preset.num_parameters
    assert shape == sizes.SIZES[preset.name.removeprefix("pretrain-")]


@pytest.mark.parametrize("preset", BASES, ids=by_name)
def test_the_bytes_and_the_rate_that_it_names_are_those_of_a_plan(preset: Preset) -> None:
    settings, text = settings_of(preset), preset.path.read_text(encoding="utf-8")
    said, step = SAID.search(text), STEP.search(text)
    assert said is not None and step is not None and preset.num_parameters is not None
    bytes_a_step = settings.batch_size * settings.length * settings.accumulate
    assert number(step[1]) == bytes_a_step
    assert number(said[2]) == bytes_a_step * settings.max_steps
    assert number(said[2]) / preset.num_parameters == pytest.approx(20, rel=0.001)
    flops = arithmetic.needed_flops(preset.num_parameters, 20.0)
    assert settings.learning_rate == pytest.approx(arithmetic.learning_rate(flops), rel=0.03)
    assert bytes_a_step == pytest.approx(arithmetic.batch_tokens(flops, length=1), rel=0.1)


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize("preset", PRESETS, ids=by_name)
def test_a_typo_in_it_is_named(preset: Preset, tmp_path: Path) -> None:
    key = max(preset.settings, key=len)
    changed = tmp_path / preset.path.name
    text = preset.path.read_text(encoding="utf-8")
    changed.write_text(re.sub(rf"^{key} ", f"{key[:-1]} ", text, flags=re.MULTILINE))
    copy = Preset(preset.name, changed, preset.command, "", {})
    with pytest.raises(UsageError, match=f"did you mean '{key}'"):
        settings_of(copy)


def presets(*flags: str) -> int:
    return cli.main("seshu", __main__.COMMANDS, about="", arguments=["presets", *flags])


def test_the_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert presets() == 0
    shown = capsys.readouterr().out
    assert all(preset.name in shown for preset in PRESETS)
    assert "1,405,087,488" in shown
    assert presets("--log-format", "json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["preset"]: event["parameters"] for event in told} == {
        preset.name: preset.num_parameters for preset in PRESETS
    }


def test_a_path_is_alone_on_its_line_and_loads(capsys: pytest.CaptureFixture[str]) -> None:
    assert presets("--path", "sft") == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == find("sft.toml").path


def test_one_is_shown_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert presets("--show", "train") == 0
    assert tomllib.loads(capsys.readouterr().out) == find("train").settings


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--show", "pretain-nano"), "did you mean 'pretrain-nano'?"),
        (("--path", "xyz"), "python -m seshu_swarm presets"),
        (("--path", "sft", "--show", "sft"), "give one of them"),
    ],
)
def test_wrong_names_are_answered(
    flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert presets(*flags) == UsageError.exit_code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "d_model = 4\n", "# For: nobody\n# x\n", "# For: \n=\n"])
def test_what_is_no_preset_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(PackageError, match=r"a\.toml is no preset"):
        read(tmp_path / "a.toml")
