"""Where a package lies: a reference always pins content.

    hf://OWNER/REPO@COMMIT#sha256=DIGEST    a commit of 40 hex digits; branches can move, so no
    swarm://sha256/DIGEST                   from any peer that announced it
    file:///FOLDER#sha256=DIGEST            a folder of this machine

DIGEST is that of the package (its manifest). Pure text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.errors import UsageError
from seshu_swarm.packages import is_digest

_HUB = re.compile(r"([\w.-]{1,96}/[\w.-]{1,96})@([0-9a-f]{40})")
_WAY_OUT = "hf://OWNER/REPO@COMMIT#sha256=…, swarm://sha256/… or file:///…#sha256=…"


@dataclass(frozen=True)
class Reference:
    """`place`: OWNER/REPO@COMMIT, a folder, or nothing for the swarm."""

    scheme: str
    place: str
    digest: str

    def __str__(self) -> str:
        if self.scheme == "swarm":
            return f"swarm://sha256/{self.digest}"
        return f"{self.scheme}://{self.place}#sha256={self.digest}"

    @property
    def repository(self) -> tuple[str, str]:
        """Owner/repo and commit of a Hub reference."""
        repository, _, commit = self.place.partition("@")
        return repository, commit

    @classmethod
    def of_swarm(cls, digest: str) -> Reference:
        return cls("swarm", "", digest)

    @classmethod
    def of_folder(cls, folder: Path, digest: str) -> Reference:
        return cls("file", str(folder.resolve()), digest)


def parse(text: str) -> Reference:
    """Read a reference that may come from anyone. Raises UsageError."""
    scheme, _, rest = text.partition("://")
    if scheme == "swarm" and rest.startswith("sha256/") and is_digest(rest[7:]):
        return Reference("swarm", "", rest[7:])
    place, _, digest = rest.partition("#sha256=")
    if not is_digest(digest):
        raise UsageError(f"reference {text!r} pins no digest", rule=_WAY_OUT)
    if scheme == "file" and place.startswith("/") and place.isprintable():
        return Reference("file", place, digest)
    if scheme == "hf" and _HUB.fullmatch(place):
        return Reference("hf", place, digest)
    raise UsageError(
        f"reference {text!r} is not one we follow",
        rule="hf:// wants a commit of 40 hex digits: a branch can move after it was checked",
        way_out=_WAY_OUT,
    )
