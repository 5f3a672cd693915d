"""What a release is made of: one version, packages that install, papers that machines read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from seshu_swarm import __version__

ROOT = Path(__file__).parents[1]
TEMPLATES = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
BUILD_SECONDS = 120


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_version_stands_in_one_place() -> None:
    """Everything that names it asks for it: written twice, one of them would be forgotten."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"] and "version" not in project["project"]
    attribute = project["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert attribute == "seshu_swarm.__version__"
    assigned = re.compile(rf"version[\"']?\s*[:=]\s*[\"']?{re.escape(__version__)}\b")
    sources = [*(ROOT / "seshu_swarm").rglob("*.py"), *ROOT.glob("*.py"), *ROOT.glob("*.cff")]
    sources += [*(ROOT / "deploy").rglob("*"), ROOT / "pyproject.toml", ROOT / "mkdocs.yml"]
    texts = {path: path.read_text(encoding="utf-8") for path in sources if path.is_file()}
    places = [str(path.relative_to(ROOT)) for path, text in texts.items() if assigned.search(text)]
    places += [
        name for name in ["seshu_swarm/__init__.py"] if f'"{__version__}"' in texts[ROOT / name]
    ]
    assert places == ["seshu_swarm/__init__.py"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`python -m build`, with what is installed here: an isolated one would ask an index.

    Without a compiler, which takes the time; wheels with kernels: tests/mamba/test_native_build.py.
    """
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(
        command,
        env=os.environ | {"CC": "/nonexistent/cc"},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


def test_build_gives_a_source_archive_with_everything_to_build_again(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    top = f"seshu_swarm-{__version__}"
    assert archive.name == f"{top}.tar.gz"
    with tarfile.open(archive) as packed:
        names = {name.removeprefix(f"{top}/") for name in packed.getnames()}
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CITATION.cff"} <= names
    assert "seshu_swarm/mamba/kernels/native/sources/kernels.c" in names
    assert not [name for name in names if name.endswith((".so", ".pyc", ".key"))]


def test_build_gives_a_wheel_of_that_version_with_the_command(built: Path) -> None:
    """It is made from the source archive, so that one is complete."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        info = f"seshu_swarm-{__version__}.dist-info"
        metadata = wheel.read(f"{info}/METADATA").decode()
        points = wheel.read(f"{info}/entry_points.txt").decode()
        names = wheel.namelist()
    assert (
        f"\nVersion: {__version__}\n" in metadata
        and "\nLicense-Expression: Apache-2.0\n" in metadata
    )
    assert "seshu = seshu_swarm.__main__:main" in points
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"seshu_swarm", info}


def test_the_changelog_keeps_the_form_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert titles[0] == "[Unreleased]"
    for title in titles[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", title)
    kinds = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def schema_says(schema: str, path: Path) -> str:
    """What check-jsonschema has against a file; nothing where it keeps to the schema."""
    program = Path(sys.executable).with_name("check-jsonschema")
    told = subprocess.run(
        [program, "--builtin-schema", f"vendor.{schema}", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "" if told.returncode == 0 else told.stdout + told.stderr


def test_the_citation_keeps_to_its_format(tmp_path: Path) -> None:
    path = ROOT / "CITATION.cff"
    assert not schema_says("citation-file-format", path)
    found = read_yaml(path)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert found["license"] == project["license"] and found["type"] == "software"
    nameless = tmp_path / "CITATION.cff"
    nameless.write_text(re.sub("^title: .*$", "", path.read_text(), flags=re.MULTILINE))
    assert "title" in schema_says("citation-file-format", nameless)


def test_there_is_a_form_for_each_kind_of_issue() -> None:
    assert {path.stem for path in TEMPLATES} == {"bug", "config", "refused-adapter", "unreachable"}
    assert (ROOT / ".github/pull_request_template.md").is_file()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_an_issue_form_keeps_to_its_format(path: Path) -> None:
    kind = "issue-config" if path.stem == "config" else "issue-forms"
    assert not schema_says(f"github-{kind}", path)
