"""Where a dashboard is served, as settings say it. Pure and light."""

from __future__ import annotations

import re

from seshu_swarm.errors import UsageError

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/]{1,253}):(\d{1,5})", re.ASCII)


def parse(text: str) -> tuple[str, int]:
    """HOST:PORT, the host of IPv6 in brackets. Raises UsageError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[2]) > 65_535:
        raise UsageError(
            f"--web {text!r} is no address",
            rule="HOST:PORT, with a port from 0 to 65535; 0: a free one",
            way_out="for example 127.0.0.1:8080, or 0.0.0.0:8080 for everyone who reaches this machine",
        )
    return found[1].strip("[]"), int(found[2])
