"""What this machine's peer shows its owner: role, work and limits, from a file it keeps fresh."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from seshu_swarm.errors import UsageError
from seshu_swarm.packages import write_whole
from seshu_swarm.peer import screen
from seshu_swarm.peer.config import StatusConfig
from seshu_swarm.peer.guest import Guest
from seshu_swarm.program import log

STATUS_FILE = "status.json"


def write(state_dir: Path, *, role: str, guest: Guest, **facts: Any) -> None:
    """Leave the facts where `peer status` finds them, and on this peer's own screen."""
    table = {
        "role": role,
        "pid": os.getpid(),
        "time": time.time(),
        **facts,
        "memory_bytes": psutil.Process().memory_info().rss,
        "uploaded_today_bytes": guest.uploaded_bytes,
        "limits": str(guest.limits),
        "paused": guest.pause_reason(),
    }
    write_whole(state_dir / STATUS_FILE, json.dumps(table, indent=1).encode())
    screen.tell(table, guest.limits)


def run(settings: StatusConfig) -> int:
    path = Path(settings.state_dir).expanduser() / STATUS_FILE
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise UsageError(
            f"no peer has written {path}",
            rule="a running peer keeps its status in its state folder",
            way_out="start one, or name its folder with --state-dir",
        ) from None
    facts["running"] = psutil.pid_exists(facts["pid"])
    lines = [_line(name, value) for name, value in facts.items()]
    log.event("status", "\n".join(lines), **facts)
    return 0


def _line(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return f"{name.removesuffix('_bytes').replace('_', ' ')}: {value / 1e6:.1f} MB"
    if name == "time":
        return f"as of: {datetime.fromtimestamp(value):%H:%M:%S}"
    return f"{name.replace('_', ' ')}: {value}"
