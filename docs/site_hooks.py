"""What MkDocs calls: pages from outside docs/, and links that lead where a page of the site is.

The repository's links are right on disk (tests/test_docs.py). Here a link to a page is bent to
where the site has it; a link to any other file is left as its words, because the site has no code.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# File of the repository → page of the site; docs/NAME is NAME.
BROUGHT_IN = {
    "README.md": "readme.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "SECURITY.md": "security.md",
    "peer/README.md": "runbooks/peer.md",
    "coordinator/README.md": "runbooks/coordinator.md",
    "deploy/README.md": "runbooks/deploy.md",
    "tests/attacks/README.md": "attacks.md",
    "tests/vectors/README.md": "vectors.md",
    "tests/external/README.md": "external.md",
}
SOURCES = {page: source for source, page in BROUGHT_IN.items()}
FENCED = re.compile(r"(^```.*?^```)", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """A page that nobody has placed yet comes last, so that none is out of reach."""
    placed = set(pages_in(config["nav"]))
    rest = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in placed)
    if rest:
        config["nav"].append({"More": rest})
    return config


def pages_in(nav: Any) -> Iterator[str]:
    """Every page that a navigation names, at any depth."""
    if isinstance(nav, str):
        yield nav
    for one in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages_in(one)


def on_files(files: Files, config: Any) -> Files:
    for source, page in BROUGHT_IN.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    here = page.file.src_uri
    parts = FENCED.split(markdown)
    # Every second part is a fenced block, in which nothing is a link.
    parts[::2] = [LINK.sub(lambda found: bent(found, here), part) for part in parts[::2]]
    return "".join(parts)


def bent(found: re.Match[str], here: str) -> str:
    """A link as the page `here` must write it; only its words where the site has no such page."""
    words, target = found[1], found[2]
    if re.match(r"[a-z]+:|#", target):
        return found[0]
    path, _, anchor = target.partition("#")
    source = SOURCES.get(here, f"docs/{here}")
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    page = page_of(place)
    if page is None:
        return words
    leading = posixpath.relpath(page, posixpath.dirname(here) or ".")
    return f"[{words}]({leading}{'#' + anchor if anchor else ''})"


def page_of(place: str) -> str | None:
    """The site's page of a file in the repository."""
    if place in BROUGHT_IN:
        return BROUGHT_IN[place]
    return (
        place.removeprefix("docs/") if place.startswith("docs/") and place[-3:] == ".md" else None
    )
