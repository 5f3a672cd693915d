"""Command lines: one line and an exit code for every mistake, never a traceback."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass

import pytest

from seshu_swarm import __version__
from seshu_swarm.errors import DiskFullError, LinkError, UsageError
from seshu_swarm.program import cli
from seshu_swarm.program.cli import Command
from seshu_swarm.program.config import OutputConfig, argument, setting

MODULE = "seshu_test_commands"


@dataclass(frozen=True, kw_only=True)
class GreetConfig(OutputConfig):
    """Greet somebody."""

    name: str = setting("Asha", "Whom to greet.")
    times: int = setting(1, "How often.")


@dataclass(frozen=True, kw_only=True)
class ShowConfig(OutputConfig):
    number: int = argument("Which one.")


def greet(settings: GreetConfig) -> int:
    print(*[f"hello {settings.name}"] * settings.times, sep="\n")
    return 0


def fails(settings: OutputConfig) -> int:
    raise DiskFullError("no room", rule="room is needed", way_out="free some")


def interrupted(settings: OutputConfig) -> int:
    raise KeyboardInterrupt


def show(settings: ShowConfig) -> int:
    return settings.number


COMMANDS = (
    Command("greet", GreetConfig, f"{MODULE}:greet", "Say hello."),
    Command("fail", OutputConfig, f"{MODULE}:fails", "Fail."),
    Command("stop", OutputConfig, f"{MODULE}:interrupted", "Be interrupted."),
    Command("show", ShowConfig, f"{MODULE}:show", "Show one."),
    Command("data greet", GreetConfig, f"{MODULE}:greet", "Say hello in a group."),
    Command("data show", ShowConfig, f"{MODULE}:show", "Show one in a group."),
    Command("nowhere", OutputConfig, "seshu_test_missing:run", "Not installed."),
)


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType(MODULE)
    vars(module).update(greet=greet, fails=fails, interrupted=interrupted, show=show)
    monkeypatch.setitem(sys.modules, MODULE, module)


def run(*arguments: str, default: str | None = None) -> int:
    return cli.main("test", COMMANDS, about="A test.", default=default, arguments=arguments)


def test_a_command_runs_with_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("greet", "--name", "Ravi", "--times", "2") == 0
    assert capsys.readouterr().out == "hello Ravi\nhello Ravi\n"
    assert run("show", "3") == 3


def test_a_command_of_a_group_has_two_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "greet", "--name", "Ravi") == 0
    assert capsys.readouterr().out == "hello Ravi\n"
    assert run("data", "show", "4") == 4
    with pytest.raises(SystemExit) as ended:
        run("data")
    assert ended.value.code == 2
    assert "required: COMMAND" in capsys.readouterr().err


def test_a_mistake_is_one_line_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fail") == DiskFullError.exit_code
    said = capsys.readouterr()
    assert said.err == "error: no room; room is needed; free some\n" and said.out == ""
    assert run("greet", "--times", "often") == UsageError.exit_code
    assert capsys.readouterr().err.startswith("error: --times: 'often' is not a whole number; ")
    assert run("greet", "--log-format", "xml") == UsageError.exit_code


def test_ctrl_c_has_the_exit_code_that_shells_expect() -> None:
    assert run("stop") == 130


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sing",), "invalid choice: 'sing'"),
        (("greet", "--nam", "x"), "unrecognized arguments: --nam x"),
        (("greet", "--loud"), "unrecognized arguments: --loud"),
        (("show",), "required: NUMBER"),
    ],
)
def test_an_unknown_word_is_a_usage_error(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == UsageError.exit_code
    assert said in capsys.readouterr().err


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == UsageError.exit_code
    listed = capsys.readouterr().out
    listed = " ".join(listed.split())
    assert all(c.name.split()[0] in listed and c.sentence in listed for c in COMMANDS)


def test_the_default_runs_where_only_flags_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--name", "Mira", default="greet") == 0
    assert capsys.readouterr().out == "hello Mira\n"
    for flag in ("--help", "-h", "--version"):
        with pytest.raises(SystemExit) as caught:
            run(flag, default="greet")
        assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"seshu-swarm {__version__}" in shown and "Say hello." in shown


def test_help_and_settings_need_nothing_that_the_command_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run("nowhere", "--help")
    assert run("nowhere", "--print-config") == 0
    assert 'log_format = "text"' in capsys.readouterr().out
    with pytest.raises(ModuleNotFoundError):
        run("nowhere")


def test_settings_come_from_a_file_too(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"{tmp_path}/x.toml"
    with open(path, "w") as file:
        file.write("name = 'Devi'")
    assert run("greet", "--config", path) == 0
    assert run("greet", "--config", path, "--name", "Ila") == 0
    assert capsys.readouterr().out == "hello Devi\nhello Ila\n"
    assert run("greet", "--config", f"{tmp_path}/none.toml") == UsageError.exit_code


def test_a_wrong_link_reaches_the_person_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from seshu_swarm.client import __main__ as client

    code = cli.main(
        "test",
        client.COMMANDS,
        about="",
        arguments=["generate", "--prompt", "x", "--join", "seshu://[", "--state-dir", "/nowhere"],
    )
    assert code == LinkError.exit_code
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("error: ")
