"""What presets there are: each file's command, its first sentence, and the parameters it makes."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.mamba.shape import MambaShape

FOLDER = Path(__file__).parent
FIRST_LINE = re.compile(r"# For: (python -m seshu_swarm[.\w]* \w+)")


@dataclass(frozen=True)
class Preset:
    """`command` as it is typed; `num_parameters` where the preset decides on a shape."""

    name: str
    path: Path
    command: str
    sentence: str
    settings: dict[str, Any]

    @property
    def num_parameters(self) -> int | None:
        if "d_model" not in self.settings:
            return None
        sizes = {key: self.settings[key] for key in ("d_model", "num_blocks")}
        return MambaShape(**sizes).num_parameters


def all_presets() -> list[Preset]:
    """By command, then by size and name. Raises PackageError for a damaged installation."""
    found = [read(path) for path in FOLDER.glob("*.toml")]
    return sorted(found, key=lambda p: (p.command, p.num_parameters or 0, p.name))


def find(name: str) -> Preset:
    """By name, with or without its ending. Raises UsageError."""
    known = {preset.name: preset for preset in all_presets()}
    plain = name.removesuffix(".toml")
    if plain in known:
        return known[plain]
    near = difflib.get_close_matches(plain, known, n=1)
    raise UsageError(
        f"there is no preset {name!r}",
        rule=f"one of {', '.join(known)}",
        way_out=f"did you mean {near[0]!r}?" if near else "python -m seshu_swarm presets",
    )


def read(path: Path) -> Preset:
    """Raises PackageError."""
    try:
        text = path.read_text(encoding="utf-8")
        settings = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise PackageError(f"{path} is no preset: {error}", way_out="install again") from None
    lines = text.splitlines()
    heading = FIRST_LINE.fullmatch(lines[0]) if lines else None
    if heading is None or len(lines) < 2:
        raise PackageError(
            f"{path} is no preset", rule="its first line says '# For: python -m MODULE COMMAND'"
        )
    return Preset(path.stem, path, heading[1], _sentence(lines[1:]), settings)


def _sentence(lines: list[str]) -> str:
    """The first sentence of the comment that follows the heading."""
    words: list[str] = []
    for line in lines:
        if not line.startswith("# "):
            break
        words.append(line.removeprefix("# "))
    return re.split(r"(?<=\.)\s", " ".join(words), maxsplit=1)[0]
