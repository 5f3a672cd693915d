"""Settings: defaults below TOML below flags; whatever is wrong is named with the way out."""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.client.config import GenerateConfig
from seshu_swarm.client.config import StatusConfig as ClientStatusConfig
from seshu_swarm.coordinator import config as coordinator
from seshu_swarm.demo.config import DemoConfig
from seshu_swarm.errors import UsageError
from seshu_swarm.peer import config as peer
from seshu_swarm.program import config
from seshu_swarm.program.config import JoinConfig, NetworkConfig, OutputConfig, argument, setting

ALL = [
    *(GenerateConfig, ClientStatusConfig, DemoConfig, BenchConfig),
    *(peer.HostConfig, peer.FinetuneConfig, peer.AutoConfig, peer.StatusConfig),
    *(coordinator.OpenConfig, coordinator.PretrainConfig, coordinator.RunConfig),
    *(coordinator.StatusConfig, coordinator.RoundConfig, coordinator.VerifyConfig),
]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One setting of every kind."""

    name: str = setting('a \\ "b"', "Text, 100 % of it.")
    count: int = setting(3, "A whole number.")
    seconds: float = setting(0.5, "A number, in seconds.")
    wild: bool = setting(False, "Yes or no.")
    languages: tuple[str, ...] = setting(("hi", "ta"), "A list.")
    limit: int | None = setting(None, "A number or unset.")


@dataclass(frozen=True, kw_only=True)
class Numbered(Sample):
    number: int = argument("Which one.")


def parse(kind: type, *given: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    config.add_flags(parser, kind)
    flags = vars(parser.parse_args(given))
    flags.pop("config"), flags.pop("print_config")
    return flags


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_then_toml_then_flags(tmp_path: Path) -> None:
    toml = write(tmp_path, 'count = 5\nwild = true\nlanguages = ["bn"]\nseconds = 2\nlimit = 8')
    assert config.load(Sample, {}) == Sample()
    from_file = config.load(Sample, {}, toml)
    expected = Sample(count=5, wild=True, languages=("bn",), seconds=2.0, limit=8)
    assert from_file == expected and type(from_file.seconds) is float
    flags = parse(Sample, "--count", "7", "--no-wild", "--languages", "as,or,")
    assert config.load(Sample, flags, toml) == dataclasses.replace(
        expected, count=7, wild=False, languages=("as", "or")
    )


def test_a_positional_is_given_by_its_place(tmp_path: Path) -> None:
    assert config.load(Numbered, parse(Numbered, "4")).number == 4
    with pytest.raises(UsageError, match="'four' is not a whole number"):
        config.load(Numbered, parse(Numbered, "four"))


def test_an_unknown_key_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    path = write(tmp_path, "langauges = ['hi']")
    with pytest.raises(UsageError) as caught:
        config.load(Sample, {}, path)
    assert str(caught.value) == (
        f"{path}: unknown setting 'langauges'; every key must be a setting of this command; "
        "did you mean 'languages'?"
    )
    with pytest.raises(UsageError, match=r"unknown setting 'zzz'.*see --print-config"):
        config.load(Sample, {}, write(tmp_path, "zzz = 1"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("count = 'many'", "count: 'many' is not a whole number"),
        ("count = 2.5", "count: 2.5 is not a whole number"),
        ("count = true", "count: True is not a whole number"),
        ("count = [1]", r"count: \[1\] is not a whole number"),
        ("seconds = 'soon'", "seconds: 'soon' is not a number"),
        ("wild = 'yes'", "wild: 'yes' is not true or false"),
        ("wild = 1", "wild: 1 is not true or false"),
        ("languages = 3", "languages: 3 is not text"),
        ("languages = [['hi']]", "is not text"),
        ("name = 2020-01-01", "is not text"),
        ("[name]\nx = 1", "is not text"),
        ("count = ", "is not TOML"),
        ("count = 1\ncount = 2", "is not TOML"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path, line)
    with pytest.raises(UsageError, match=said) as caught:
        config.load(Sample, {}, path)
    assert str(path) in str(caught.value) and "--print-config" in str(caught.value)


def test_a_flag_with_a_wrong_value_is_named() -> None:
    for given, said in (
        (("--count", "2.5"), "--count: '2.5' is not a whole number"),
        (("--seconds", "soon"), "--seconds: 'soon' is not a number"),
        (("--limit", "x"), "--limit: 'x' is not a whole number"),
    ):
        with pytest.raises(UsageError, match=said):
            config.load(Sample, parse(Sample, *given))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(UsageError, match=f"cannot read the configuration {path}"):
            config.load(Sample, {}, path)
    (tmp_path / "latin").write_bytes(b"name = '\xe9'")
    with pytest.raises(UsageError, match="is not TOML"):
        config.load(Sample, {}, tmp_path / "latin")


@pytest.mark.parametrize("kind", [Sample, *ALL], ids=lambda kind: kind.__qualname__)
def test_what_print_config_shows_can_be_loaded_and_changes_nothing(
    kind: type, tmp_path: Path
) -> None:
    text = config.to_toml(kind)
    table = tomllib.loads(text)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    given = [name for name, field in fields.items() if config.is_positional(field)]
    positional: dict[str, Any] = {name: 1 if name == "number" else "x" for name in given}
    loaded: Any = config.load(kind, positional, write(tmp_path, text))
    assert loaded == kind(**positional)
    # Every setting is shown: with its value, or commented out where it is unset.
    for name, field in fields.items():
        if name in positional:
            continue
        assert f"# {field.metadata['sentence']}" in text
        assert (name in table) == (field.default is not None)
        assert f"\n# {name} = " in text or name in table


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_every_setting_has_a_sentence_a_flag_and_a_kind_that_toml_knows(kind: type) -> None:
    parser = argparse.ArgumentParser()
    config.add_flags(parser, kind)
    text = " ".join(parser.format_help().split())
    for field in dataclasses.fields(kind):
        sentence = field.metadata["sentence"]
        assert sentence.endswith((".", "…")) and not sentence[0].islower()
        assert config.is_positional(field) or config.flag_of(field.name) in text


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (OutputConfig, {"log_format": "xml"}, "--log-format 'xml'.*text or json"),
        (NetworkConfig, {"port": 65_536}, "--port 65536"),
        (NetworkConfig, {"port": -1}, "--port -1"),
        (coordinator.OpenConfig, {"run_id": "Run"}, "--run-id 'Run'"),
        (coordinator.OpenConfig, {"bad_rows": "keep"}, "--bad-rows 'keep'"),
        (coordinator.OpenConfig, {"languages": ()}, "no languages"),
        (peer.FinetuneConfig, {"store": "ftp"}, "--store 'ftp'"),
        (peer.FinetuneConfig, {"rank": 65}, "--rank 65"),
        (peer.FinetuneConfig, {"store": "hub"}, "--repository OWNER/NAME"),
        (GenerateConfig, {"max_new_tokens": 0}, "--max-new-tokens 0"),
        (GenerateConfig, {"temperature": -0.1}, "--temperature -0.1"),
        (DemoConfig, {"num_blocks": 1}, "--num-blocks 1"),
    ],
)
def test_a_value_out_of_its_range_names_its_flag(
    kind: type, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        kind(**fields)


def test_the_state_folder_is_found_under_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert JoinConfig().state_path == tmp_path / ".seshu"
