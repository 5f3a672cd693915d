"""Settings: one frozen dataclass per component, TOML below flags, unknown keys refused.

A setting is declared once, with its default, its sentence and its unit:

    @dataclass(frozen=True, kw_only=True)
    class HostConfig:
        blocks: str | None = setting(None, "Blocks START:END to host; unset: where coverage is worst.")

From the dataclass come the flags, the TOML keys and `--print-config`. Knows no component and
imports nothing heavy.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from seshu_swarm.errors import UsageError

Config = TypeVar("Config")
ANNOUNCED = re.compile(r"/(ip4|ip6|dns4|dns6)/[\w.:-]{1,253}/tcp/[1-9]\d{0,4}")


def setting(default: Any, sentence: str) -> Any:
    """A dataclass field whose `sentence` is its help text and its TOML comment."""
    return dataclasses.field(default=default, metadata={"sentence": sentence})


def argument(sentence: str) -> Any:
    """A dataclass field that is given by its place on the command line and must be given."""
    return dataclasses.field(metadata={"sentence": sentence, "positional": True})


def is_positional(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("positional"))


def _kinds(config: type) -> dict[str, tuple[type, bool]]:
    """Name of each setting → (its plain type, whether it may be unset or a list)."""
    kinds: dict[str, tuple[type, bool]] = {}
    for name, hint in typing.get_type_hints(config).items():
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            plain = next(a for a in arguments if a is not type(None))
            kinds[name] = (plain, False)
        elif origin is tuple:
            kinds[name] = (arguments[0], True)
        else:
            kinds[name] = (hint, False)
    return kinds


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def add_flags(parser: argparse.ArgumentParser, config: type) -> None:
    """Add one flag per setting, plus `--config FILE` and `--print-config`."""
    kinds = _kinds(config)
    for field in dataclasses.fields(config):
        kind, is_list = kinds[field.name]
        text = field.metadata["sentence"].replace("%", "%%")
        if is_positional(field):
            parser.add_argument(field.name, metavar=field.name.upper(), help=text)
            continue
        shown = _shown(field.default)
        options: dict[str, Any] = {"dest": field.name, "default": None}
        options["help"] = f"{text} (default: {shown})" if shown else text
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = kind.__name__.upper() + ("[,...]" if is_list else "")
        parser.add_argument(flag_of(field.name), **options)
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings; flags win.")
    parser.add_argument(
        "--print-config", action="store_true", help="Print all settings as commented TOML and stop."
    )


def _shown(default: Any) -> str:
    if default is None or default == ():
        return ""
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def load(config: type[Config], flags: Mapping[str, Any], toml: Path | None = None) -> Config:
    """Defaults, then the TOML file, then the flags that were given. Raises UsageError."""
    values = _settings_of(config, toml) if toml else {}
    kinds = _kinds(config)
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        name, given = field.name, flags.get(field.name)
        if given is not None:
            source = name.upper() if is_positional(field) else flag_of(name)
            values[name] = _convert(given, *kinds[name], source=source)
    return config(**values)


def read_toml(path: Path, *, what: str, way_out: str) -> dict[str, Any]:
    """The table of a file. Raises UsageError naming the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {what} {path}: {error.strerror}", way_out=way_out) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", way_out=way_out) from None


def _settings_of(config: type, path: Path) -> dict[str, Any]:
    way_out = "give --config the path of a TOML file, or start from --print-config"
    table = read_toml(path, what="the configuration", way_out=way_out)
    kinds = _kinds(config)
    for key in table:
        if key not in kinds:
            raise _unknown(key, kinds, str(path))
    return {
        key: _convert(value, *kinds[key], source=f"{path}: {key}") for key, value in table.items()
    }


def _unknown(key: str, known: Mapping[str, Any], source: str) -> UsageError:
    near = difflib.get_close_matches(key, known, n=1)
    return UsageError(
        f"{source}: unknown setting {key!r}",
        rule="every key must be a setting of this command",
        way_out=f"did you mean {near[0]!r}?" if near else "see --print-config for all settings",
    )


def _convert(value: Any, kind: type, is_list: bool, *, source: str) -> Any:
    if is_list:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list):
            raise _wrong_type(value, kind, source)
        return tuple(_convert(p, kind, False, source=source) for p in parts if p != "")
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise _wrong_type(value, kind, source)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong_type(value, kind, source)
    if kind is int and isinstance(value, float):
        raise _wrong_type(value, kind, source)
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise _wrong_type(value, kind, source) from None


def _wrong_type(value: Any, kind: type, source: str) -> UsageError:
    expected = {int: "a whole number", float: "a number", bool: "true or false"}
    return UsageError(
        f"{source}: {value!r} is not {expected.get(kind, 'text')}",
        way_out="see --print-config for an example of every setting",
    )


def to_toml(config: type) -> str:
    """Every setting with its sentence and default; unset ones are commented out."""
    kinds = _kinds(config)
    lines: list[str] = []
    for field in dataclasses.fields(config):
        if is_positional(field):
            continue
        lines.append(f"# {field.metadata['sentence']}")
        if field.default is None:
            example = {int: "0", float: "0.0", bool: "false"}.get(kinds[field.name][0], '""')
            lines.append(f"# {field.name} = {example}")
        else:
            lines.append(f"{field.name} = {_toml_value(field.default)}")
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, str | Path):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """How a command speaks."""

    log_format: str = setting(
        "text", "Lines on standard output: text for people, json for programs."
    )
    verbose: bool = setting(False, "Log also what only developers want to know.")
    end_with_parent: bool = setting(False, "End when the program that started this one is gone.")

    def __post_init__(self) -> None:
        if self.log_format not in ("text", "json"):
            raise UsageError(
                f"--log-format {self.log_format!r} is unknown", way_out="use text or json"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig(OutputConfig):
    """Where a peer keeps its things and listens."""

    state_dir: str = setting("~/.seshu", "Folder for this peer's key, packages and status.")
    host: str = setting(
        "0.0.0.0", "Address to listen on; 127.0.0.1 keeps the peer on this machine."
    )
    port: int = setting(0, "TCP port to listen on; 0: a free one.")
    announce: str | None = setting(
        None, "Multiaddr that others dial, such as /ip4/A.B.C.D/tcp/PORT; unset: where it listens."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"--port {self.port} is not a port", rule="0 to 65535")
        if self.announce and not ANNOUNCED.fullmatch(self.announce):
            raise UsageError(
                f"--announce {self.announce!r} is no address",
                rule="/ip4/ADDRESS/tcp/PORT or /dns4/NAME/tcp/PORT, with a port from 1 on",
            )

    @property
    def state_path(self) -> Path:
        return Path(self.state_dir).expanduser()


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinConfig(NetworkConfig):
    """A peer that joins a run by its link."""

    join: str = setting("", "Join link of the run, as the coordinator printed it: seshu://…")
