"""The documentation's site: built strictly, whole, and with nothing fetched from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD_SECONDS = 200
# (tag, attribute) whose address the browser fetches by itself; a link to click is another thing.
FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("link", "href"),
}
PATHS = ("donor", "maintainer", "user", "researcher")


class Page(HTMLParser):
    """What a page fetches, where it links to, and which anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in FETCHED:
                self.fetched.append(value or "")
            if (tag, name) == ("a", "href"):
                self.links.append(value or "")
            if name == "id":
                self.anchors.add(value or "")


def build(folder: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    return subprocess.run(
        [*command, "--config-file", str(root / "mkdocs.yml")],
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_document_is_a_page_and_is_found_from_the_first(pages: dict[Path, Page]) -> None:
    names = {path.stem for path in pages}
    documents = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert documents | set(PATHS) <= names
    (first,) = [page for path, page in pages.items() if path.name == "index.html"]
    linked = {link.partition("#")[0].rpartition("/")[2] for link in first.links}
    assert {f"{name}.html" for name in documents - {"index"}} <= linked


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    fetched = {address for page in pages.values() for address in page.fetched}
    assert fetched and not [one for one in fetched if re.match(r"(\w+:)?//", one)]
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    found = [
        address
        for style in styles
        for address in re.findall(r"(?:@import\s+|url\()[\"']?((?:\w+:)?//[^)\"']+)", style)
    ]
    assert styles and not found


def test_every_link_inside_the_site_leads_somewhere(pages: dict[Path, Page]) -> None:
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"\w+:|//", link) or path.name == "404.html":
                continue
            target, _, anchor = link.partition("#")
            place = (path.parent / target).resolve() if target else path
            there = pages.get(place)
            if there is None or (anchor and anchor not in there.anchors):
                wrong.append(f"{path.name}: {link}")
    assert not wrong


def test_the_reference_is_made_from_docstrings(pages: dict[Path, Page]) -> None:
    (reference,) = [page for path, page in pages.items() if path.name == "reference.html"]
    for name in (
        "seshu_swarm.client.pretrained.model.RemoteModelForCausalLM.from_pretrained",
        "seshu_swarm.packages.verify",
        "seshu_swarm.errors.UnreachableError",
    ):
        assert name in reference.anchors
    assert "seshu_swarm.network.link._wrong" not in reference.anchors


def test_a_link_that_leads_nowhere_stops_the_build(tmp_path: Path) -> None:
    """A site of one page, with our settings and without our pages."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0]
    settings = re.sub(r"^hooks:.*$|^  - mkdocstrings:(\n    .*)+", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(settings)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs/index.md"
    page.write_text("# One\n\n[here](#one)\n")
    assert build(tmp_path / "right", tmp_path).returncode == 0
    page.write_text("# One\n\n[nowhere](two.md)\n")
    assert build(tmp_path / "wrong", tmp_path).returncode != 0
    page.write_text("# One\n\n[nowhere](#two)\n")
    assert build(tmp_path / "wrong", tmp_path).returncode != 0
