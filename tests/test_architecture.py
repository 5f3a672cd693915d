"""The arrows of the package: each room of the core knows only what stands below it; core ← client ← peer,
core ← coordinator.

Reads the sources, so it relies on absolute imports and does not see importlib calls; those that
exist (`cli` imports the chosen command) are named by the entry points, which are checked too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "seshu_swarm"
# From the ground up, as the package's docstring draws it.
CORE = (
    *("errors", "packages", "spans", "sessions", "program", "records", "streams", "pipeline"),
    *("mamba", "adapters", "checkpoints", "data", "network", "stores", "training", "run"),
    *("exchange", "evaluate", "dashboard", "planning", "presets", "exporting", "doctor"),
)
# Outside the core: what each may import besides the core and itself.
OUTSIDE = {
    "client": frozenset[str](),
    "peer": frozenset({"client"}),
    "coordinator": frozenset[str](),
    "demo": frozenset({"client"}),
    "bench": frozenset({"client", "coordinator"}),
    "__main__": frozenset({"client", "demo", "bench"}),
}
MAY_IMPORT = {room: frozenset(CORE[:height]) for height, room in enumerate(CORE)}
MAY_IMPORT |= {room: frozenset(CORE) | others for room, others in OUTSIDE.items()}
MAY_IMPORT["__init__"] = frozenset()
VERSIONS = frozenset({"__version__", "WIRE_VERSION"})


def imports(path: Path) -> Iterator[str]:
    """Every module or name that a file imports; a relative import begins with a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def wrong_arrows(path: Path, package: Path) -> list[str]:
    """Imports of `path` that its room forbids."""
    room = path.relative_to(package).parts[0].removesuffix(".py")
    allowed = MAY_IMPORT[room] | VERSIONS | {room}
    wrong = []
    for name in imports(path):
        parts = name.split(".")
        is_ours = parts[0] == package.name and len(parts) > 1
        is_banned = name.startswith(".") or parts[0] == "pickle"
        if is_banned or (is_ours and parts[1] not in allowed):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_arrows(path: Path) -> None:
    assert not wrong_arrows(path, PACKAGE), "its room must not import these"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("network/dht.py", "from seshu_swarm.peer import guest"),
        ("network/dht.py", "from seshu_swarm.stores import swarm"),
        ("sessions/chain.py", "from seshu_swarm.streams.channel import Channel"),
        ("mamba/scan.py", "from seshu_swarm import checkpoints"),
        ("mamba/scan.py", "import seshu_swarm.client.chain.routing"),
        ("stores/swarm.py", "from seshu_swarm import coordinator"),
        ("data/rows.py", "from seshu_swarm.demo.run import run"),
        ("client/chain/session.py", "from seshu_swarm.peer.hosted import HostedParts"),
        ("client/deep/er.py", "from seshu_swarm.coordinator import rounds"),
        ("peer/host.py", "from seshu_swarm.coordinator.rounds.states import RoundState"),
        ("coordinator/rounds.py", "def f():\n    from seshu_swarm.peer import guest"),
        ("coordinator/rounds.py", "import seshu_swarm.client"),
        ("demo/run.py", "from seshu_swarm.peer.host import HostingPeer"),
        ("demo/run.py", "import seshu_swarm.coordinator.rounds.holding as holding"),
        ("__main__.py", "from seshu_swarm.coordinator import __main__"),
        ("records/kinds.py", "import pickle"),
        ("records/kinds.py", "from pickle import loads"),
        ("records/kinds.py", "from . import uids"),
        ("peer/host.py", "from ..coordinator import rounds"),
    ],
)
def test_a_planted_violation_is_seen(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / "seshu_swarm" / file
    path.parent.mkdir(parents=True)
    path.write_text(f"import json\n{line}\n")
    assert len(wrong_arrows(path, tmp_path / "seshu_swarm")) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("peer/host.py", "from seshu_swarm.client.chain.routing import Offer"),
        ("peer/host.py", "from seshu_swarm.peer import guest, status"),
        ("coordinator/holding.py", "from seshu_swarm import checkpoints, errors"),
        ("client/remote/model.py", "import seshu_swarm.mamba.ends"),
        ("demo/run.py", "from seshu_swarm.client.config import GenerateConfig"),
        ("__main__.py", "from seshu_swarm.demo.config import DemoConfig"),
        ("network/dht.py", "from seshu_swarm.records import kinds, uids"),
        ("streams/protocol.py", "from seshu_swarm import WIRE_VERSION"),
        ("streams/protocol.py", "import seshu_swarmlike.peer"),  # a longer name is another package
    ],
)
def test_what_is_allowed_is_not_seen(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / "seshu_swarm" / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    assert wrong_arrows(path, tmp_path / "seshu_swarm") == []


def test_all_rooms_are_known_to_the_rule() -> None:
    """A new room or role must be given its arrows here before anything imports it."""
    files = {path.stem for path in PACKAGE.glob("*.py")}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert files | rooms == set(MAY_IMPORT)


def test_every_folder_with_python_is_a_package() -> None:
    """One without `__init__` would be missing from the wheel."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_role_kits_hold_no_python() -> None:
    kits = [PACKAGE.parent / name for name in ("peer", "coordinator", "deploy")]
    assert [path for kit in kits for path in kit.rglob("*.py")] == []


@pytest.mark.parametrize(
    "package", sorted(path.parent for path in PACKAGE.rglob("__init__.py")), ids=lambda p: p.name
)
def test_a_package_s_docstring_names_its_files(package: Path) -> None:
    map_of_files = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    files = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    assert not [name for name in sorted(files) if not re.search(rf"\b{name}\b", map_of_files)]
