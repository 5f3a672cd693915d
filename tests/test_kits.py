"""The kits are what people run: every TOML loads, every unit's command line parses."""

from __future__ import annotations

import configparser
import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm import errors
from seshu_swarm.errors import SeshuError, UsageError
from seshu_swarm.program import cli, config
from seshu_swarm.program.cli import Command

ROOT = Path(__file__).parents[1]
KITS = ("peer", "coordinator", "deploy")
TOMLS = sorted(path for kit in KITS for path in (ROOT / kit).rglob("*.toml"))
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
# The kits' full tables are `--print-config` as it comes; every other TOML names its command.
PRINTED = {
    "peer/peer.toml": ("seshu_swarm.peer", "auto"),
    "coordinator/coordinator.toml": ("seshu_swarm.coordinator", "run"),
}
FIRST_LINE = re.compile(r"# For: python -m (seshu_swarm[.\w]*) (\w+)")
MOST_EXPOSED = 25  # ten times systemd's exposure level; a unit that hardens nothing has 96
STATE_HOME = "/var/lib"  # what systemd makes of %S in a system unit


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def command_of(path: Path) -> tuple[str, str]:
    """Module and command that a TOML is for."""
    if name_of(path) in PRINTED:
        return PRINTED[name_of(path)]
    found = FIRST_LINE.fullmatch(path.read_text(encoding="utf-8").splitlines()[0])
    if found is None:
        raise ValueError(f"{path}: the first line must read '# For: python -m MODULE COMMAND'")
    return found[1], found[2]


def commands_of(module: str) -> tuple[Command, ...]:
    commands: tuple[Command, ...] = importlib.import_module(f"{module}.__main__").COMMANDS
    return commands


def find(module: str, name: str) -> Command:
    return next(command for command in commands_of(module) if command.name == name)


def test_kits_exist_and_hold_no_python() -> None:
    assert {name_of(path) for path in TOMLS} >= set(PRINTED)
    assert len(UNITS) == 3
    assert not [path for kit in KITS for path in (ROOT / kit).rglob("*.py")]


@pytest.mark.parametrize("name", PRINTED)
def test_the_full_table_is_what_print_config_prints(
    name: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    module, command = PRINTED[name]
    monkeypatch.setattr(sys, "argv", [module, command, "--print-config"])
    assert importlib.import_module(f"{module}.__main__").main() == 0
    assert capfdbinary.readouterr().out == (ROOT / name).read_bytes()


def test_a_peer_without_a_command_is_the_one_of_the_table(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "argv", ["peer", "--print-config"])
    assert importlib.import_module("seshu_swarm.peer.__main__").main() == 0
    assert capfdbinary.readouterr().out == (ROOT / "peer/peer.toml").read_bytes()


@pytest.mark.parametrize("path", TOMLS, ids=name_of)
def test_every_toml_loads_with_the_settings_of_its_command(path: Path) -> None:
    settings: Any = config.load(find(*command_of(path)).settings, {}, path)
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    assert written, "a preset that sets nothing is none"
    for key, value in written.items():
        expected = tuple(value) if isinstance(value, list) else value
        assert getattr(settings, key) == expected


@pytest.mark.parametrize("path", TOMLS, ids=name_of)
def test_limits_in_a_kit_are_ones_that_a_peer_understands(path: Path) -> None:
    from seshu_swarm.peer.guest import GuestConfig, Limits

    settings: Any = config.load(find(*command_of(path)).settings, {}, path)
    written = set(tomllib.loads(path.read_text(encoding="utf-8")))
    if isinstance(settings, GuestConfig):
        limits = Limits.of(settings)
        named = written & {"max_memory", "max_upload_per_day", "only_hours"}
        understood = (limits.max_memory_bytes, limits.max_upload_bytes, limits.hours)
        assert sum(limit is not None for limit in understood) == len(named)


@pytest.mark.parametrize("path", TOMLS, ids=name_of)
def test_a_typo_is_named_with_a_suggestion(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    key = max(tomllib.loads(text), key=len)
    typo = key[:-1]
    changed = tmp_path / path.name
    changed.write_text(re.sub(rf"^{key}\b", typo, text, flags=re.MULTILINE), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        config.load(find(*command_of(path)).settings, {}, changed)
    assert repr(typo) in caught.value.what
    assert str(changed) in caught.value.what
    assert caught.value.way_out == f"did you mean {key!r}?"


def sections(unit: Path) -> configparser.ConfigParser:
    """A unit's sections, with continued lines joined. Raises on a directive given twice."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(re.sub(r"\\\n\s*", "", unit.read_text(encoding="utf-8")))
    return parser


def exec_start(unit: Path) -> list[str]:
    line = sections(unit)["Service"]["ExecStart"].replace("%S", STATE_HOME)
    return shlex.split(line)


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_a_unit_starts_a_command_that_parses(
    unit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, dash_m, module, *arguments = exec_start(unit)
    assert dash_m == "-m"
    assert (
        cli.main(module, commands_of(module), about="", arguments=[*arguments, "--print-config"])
        == 0
    )
    assert tomllib.loads(capsys.readouterr().out)


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_a_unit_takes_the_kit_s_toml_and_its_own_state_directory(unit: Path) -> None:
    _, _, module, *arguments = exec_start(unit)
    flags = vars(cli.parser_of(module, commands_of(module)).parse_args(arguments))
    (kit,) = (path for path in TOMLS if path.name == Path(flags["config"]).name)
    assert command_of(kit) == (module, flags["command"])
    settings: Any = config.load(find(module, flags["command"]).settings, flags, kit)
    service = sections(unit)["Service"]
    assert settings.state_dir == f"{STATE_HOME}/{service['StateDirectory']}"
    assert service["Environment"].replace("%S", STATE_HOME) == f"HOME={settings.state_dir}"


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_a_unit_gives_the_program_little(unit: Path) -> None:
    service = sections(unit)["Service"]
    for directive in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "DynamicUser"):
        assert service[directive] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert "#MemoryMax=" in unit.read_text(encoding="utf-8")


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_a_unit_is_not_restarted_for_what_a_restart_cannot_mend(unit: Path) -> None:
    service = sections(unit)["Service"]
    codes = {int(code) for code in service["RestartPreventExitStatus"].split()}
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, SeshuError)]
    assert UsageError.exit_code in codes
    assert codes <= {kind.exit_code for kind in kinds}
    assert int(service["SuccessExitStatus"]) == errors.EXIT_INTERRUPTED


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_the_runbook_names_the_codes_after_which_a_unit_stays_down(unit: Path) -> None:
    runbook = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{unit.stem}` \| (.+) \|$", runbook, flags=re.MULTILINE)
    assert re.findall(r"\d+", row) == sections(unit)["Service"]["RestartPreventExitStatus"].split()


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_systemd_counts_a_unit_as_little_exposed(unit: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    command = [analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(unit)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout[-600:] + told.stderr


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    # It also looks for the program: this machine's interpreter stands in for the installed one.
    interpreter = exec_start(unit)[0]
    text = unit.read_text(encoding="utf-8").replace(
        f"ExecStart={interpreter}", f"ExecStart={sys.executable}"
    )
    local = tmp_path / unit.name
    local.write_text(text, encoding="utf-8")
    told = subprocess.run(
        [analyze, "verify", "--man=no", str(local)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in told.stderr.splitlines() if unit.name in line]
    assert told.returncode == 0, told.stderr
    assert not said, "a directive that systemd ignores is only a warning to it"
