"""What pip would fetch for the base install, in bytes: it resolves, and nothing is installed.

The index decides: where it offers torch for CPUs that is counted, else the one with CUDA beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from seshu_swarm.errors import SeshuError

# In a clone; beside an installed package they are not.
CLONE = Path(__file__).parents[3]
PYPROJECT, CONSTRAINTS = CLONE / "pyproject.toml", CLONE / "constraints.txt"
RESOLVE_SECONDS, ASK_SECONDS = 900.0, 30.0


@dataclass(frozen=True)
class Package:
    """A file that pip would fetch."""

    name: str
    version: str
    size_bytes: int


def base_requirements() -> list[str]:
    """Of this package, without its extras: as a clone has them now, else as it was installed."""
    if PYPROJECT.exists():
        project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
        return list(project["dependencies"])
    return [one for one in metadata.requires("seshu-swarm") or [] if "extra ==" not in one]


def packages_of(requirements: Sequence[str]) -> list[Package]:
    """What `pip install` of them fetches into an empty environment, largest first.

    Raises SeshuError where pip finds no answer, or a file does not say its size.
    """
    with tempfile.TemporaryDirectory(prefix="seshu-install-") as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--report", str(report), *requirements]
        if CONSTRAINTS.exists():
            command += ["--constraint", str(CONSTRAINTS)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=RESOLVE_SECONDS, check=False
        )
        if done.returncode != 0:
            last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise SeshuError(
                f"pip found no answer: {last}",
                rule="the base install must resolve",
                way_out="look at the index, or at constraints.txt",
            )
        found = [_package(one) for one in json.loads(report.read_bytes())["install"]]
    return sorted(found, key=lambda package: -package.size_bytes)


def _package(installed: dict[str, Any]) -> Package:
    about = installed["metadata"]
    return Package(about["name"], about["version"], _size(installed["download_info"]["url"]))


def _size(url: str) -> int:
    """Bytes behind an address of pip's choice; nothing but its head is fetched."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        return Path(urllib.request.url2pathname(parts.path)).stat().st_size
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=ASK_SECONDS) as answer:
            length = answer.headers.get("Content-Length")
    except OSError as error:
        raise SeshuError(
            f"{Path(parts.path).name} cannot be asked for: {error}",
            rule=f"an index answers within {ASK_SECONDS:g} s",
            way_out="try again",
        ) from error
    if length is None:
        raise SeshuError(
            f"no size is said for {Path(parts.path).name}",
            rule="an index names the size of a file",
            way_out="try again with another index",
        )
    return int(length)
