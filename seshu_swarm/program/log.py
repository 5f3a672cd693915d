"""What a role says: logging for people, events for programs.

`event` prints one line on standard output: text for people, or one JSON object with
`--log-format json`; a `fact` is for programs alone. A long-running role prints an event named `ready` when it can be used.
Everything else goes through `logging` to standard error. Only entry points call `configure`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

FORMATS = ("text", "json")
_format = "text"


def configure(role: str, log_format: str, verbose: bool = False) -> None:
    """Set up this process's output. Raises UsageError for an unknown format."""
    global _format
    _format = log_format
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {role} %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("seshu_swarm").setLevel(logging.DEBUG if verbose else logging.INFO)


def is_text() -> bool:
    return _format == "text"


def fact(name: str, **facts: Any) -> None:
    """An event for programs; people see nothing of it."""
    if not is_text():
        event(name, "", **facts)


def event(name: str, text: str, **facts: Any) -> None:
    """One line: `text` for people, or `{"event": name, "text": …, **facts}`."""
    if _format == "json":
        line = json.dumps({"event": name, "time": time.time(), "text": text, **facts})
    else:
        line = text
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # Whoever listened is gone; the role itself goes on.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
