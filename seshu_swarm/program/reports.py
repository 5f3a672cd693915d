"""The JSON report of a command: what ran, where, and numbers under stable names."""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from seshu_swarm import __version__
from seshu_swarm.errors import UsageError
from seshu_swarm.packages import write_whole

Result = float | bool


def machine() -> dict[str, Any]:
    """Facts that make a number comparable; nothing that names the machine."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "unknown"
    )


def check_place(path: Path) -> None:
    """Before hours of measuring, not after them. Raises UsageError where no report can be written."""
    trial = path.with_name(path.name + ".trial")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise UsageError(
            f"no report can be written to {path}: {error.strerror}",
            rule="a file in a folder that is yours, or that can be made",
            way_out="for example --report report.json",
        ) from None


def write_report(
    path: Path,
    *,
    command: str,
    settings: Any,
    rows: Sequence[Mapping[str, Any]],
    results: Mapping[str, Result],
    **extra: Any,
) -> None:
    """Write `path` whole. `settings` is a dataclass. Raises ResourceError, DiskFullError."""
    table = {
        "command": command,
        "version": __version__,
        "machine": machine(),
        "settings": asdict(settings),
        "rows": list(rows),
        "results": dict(results),
        **extra,
    }
    write_whole(path, json.dumps(table, indent=1, ensure_ascii=False).encode("utf-8"))
