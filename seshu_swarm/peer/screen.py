"""A calm terminal for a peer: one panel that stays below the lines of its life.

Only where a person looks: text for people, standard output and error on a terminal. Everywhere else
nothing changes, but that a wait which lasts is said once in the log, with what and for how long.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from seshu_swarm.peer.guest import Limits
from seshu_swarm.peer.seen import Seen
from seshu_swarm.program import log, progress, waits
from seshu_swarm.program.progress import Shown

DRAWN_PER_SECOND = 2

# Of this process: it is one peer.
_seen = Seen()


def tell(table: Mapping[str, Any], limits: Limits) -> None:
    """What `status` writes into its file."""
    _seen.tell(table, limits, time.monotonic())


@contextlib.contextmanager
def showing() -> Iterator[None]:
    """The panel, until the block ends; what is printed and logged meanwhile stands above it."""
    if not is_watched():
        yield
        return
    # A host that nobody watches does without: it may be a small machine.
    from rich.console import Console
    from rich.live import Live

    from seshu_swarm.peer.panel import panel

    with Live(
        console=Console(stderr=True),
        get_renderable=lambda: panel(_seen, waits.current(), time.monotonic()),
        refresh_per_second=DRAWN_PER_SECOND,
        transient=True,
    ):
        handlers = _to_screen()
        progress.taken_by = _take
        try:
            yield
        finally:
            progress.taken_by = None
            for handler, stream in handlers:
                handler.setStream(stream)


def is_watched() -> bool:
    """Whether a person sees both outputs of this process on a terminal that can be drawn on."""
    is_drawable = os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return is_drawable and log.is_text() and sys.stdout.isatty() and sys.stderr.isatty()


def _take(shown: Shown | None) -> None:
    _seen.progress = shown


def _to_screen() -> list[tuple[logging.StreamHandler[Any], Any]]:
    """Log lines go where the panel makes room for them; the streams they went to before."""
    found = []
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            found.append((handler, handler.stream))
            handler.setStream(sys.stderr)
    return found
