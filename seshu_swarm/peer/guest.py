"""A donor's machine is a guest's room: limits that the owner sets, enforced and shown.

`Limits` parses what the owner said; `Guest` answers, at any moment, whether the peer must pause,
may upload, or has memory left. The upload of the day survives a restart. Time is passed in.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from seshu_swarm.errors import MemoryLimitError, UsageError
from seshu_swarm.packages import write_whole
from seshu_swarm.program.config import setting

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", re.IGNORECASE)
_HOURS = re.compile(r"(\d{1,2})-(\d{1,2})")
UPLOAD_FILE = "upload.json"


@dataclass(frozen=True, kw_only=True)
class GuestConfig:
    """What this machine's owner allows."""

    max_memory: str | None = setting(None, "Most memory this peer may use, for example 2GB.")
    max_threads: int | None = setting(
        None, "Most processor threads for computing; unset: all cores."
    )
    max_upload_per_day: str | None = setting(None, "Most bytes sent per day, for example 500MB.")
    only_hours: str | None = setting(None, "Work only in these hours of local time, such as 22-6.")
    pause_on_battery: bool = setting(False, "Pause while the machine runs on battery.")


@dataclass(frozen=True)
class Limits:
    max_memory_bytes: int | None = None
    max_threads: int | None = None
    max_upload_bytes: int | None = None
    hours: tuple[int, int] | None = None
    pause_on_battery: bool = False

    @classmethod
    def of(cls, settings: GuestConfig) -> Limits:
        """Read the owner's words. Raises UsageError that names the flag."""
        if settings.max_threads is not None and settings.max_threads < 1:
            raise UsageError(f"--max-threads {settings.max_threads}", rule="at least 1")
        return cls(
            _size(settings.max_memory, "--max-memory"),
            settings.max_threads,
            _size(settings.max_upload_per_day, "--max-upload-per-day"),
            _hours(settings.only_hours),
            settings.pause_on_battery,
        )

    def __str__(self) -> str:
        parts = []
        if self.max_memory_bytes is not None:
            parts.append(f"memory <= {self.max_memory_bytes / 1e6:.0f} MB")
        if self.max_threads is not None:
            parts.append(f"threads <= {self.max_threads}")
        if self.max_upload_bytes is not None:
            parts.append(f"upload <= {self.max_upload_bytes / 1e6:.0f} MB a day")
        if self.hours is not None:
            parts.append(f"hours {self.hours[0]}-{self.hours[1]}")
        if self.pause_on_battery:
            parts.append("not on battery")
        return ", ".join(parts) or "none"


def _size(text: str | None, flag: str) -> int | None:
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{flag} {text!r} is not a size", way_out="for example 500MB or 2GB")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _hours(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _HOURS.fullmatch(text.strip())
    hours = (int(match[1]), int(match[2])) if match else (0, 0)
    if hours[0] == hours[1] or hours[0] > 23 or hours[1] > 24:
        raise UsageError(
            f"--only-hours {text!r} is not a range of hours", way_out="for example 22-6 or 9-17"
        )
    return hours


def in_hours(hours: tuple[int, int], hour: int) -> bool:
    """Whether `hour` lies in the half-open range, which may pass midnight."""
    start, end = hours
    return start <= hour < end if start < end else hour >= start or hour < end


def on_battery() -> bool:
    battery = psutil.sensors_battery()
    return battery is not None and not battery.power_plugged


class Guest:
    """Enforces `limits`; keeps the day's upload in `state_dir`."""

    def __init__(
        self,
        limits: Limits,
        state_dir: Path,
        *,
        now: Callable[[], datetime] = datetime.now,
        is_on_battery: Callable[[], bool] = on_battery,
    ) -> None:
        self.limits = limits
        self._now, self._is_on_battery = now, is_on_battery
        self._file = state_dir / UPLOAD_FILE
        self._day, self._uploaded_bytes = self._read()
        self._saved_at = 0.0

    def _read(self) -> tuple[str, int]:
        try:
            table = json.loads(self._file.read_bytes())
            return str(table["day"]), int(table["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", 0

    @property
    def uploaded_bytes(self) -> int:
        """Bytes sent today."""
        return self._uploaded_bytes if self._day == self._now().date().isoformat() else 0

    def allow_upload(self, num_bytes: int) -> bool:
        """Whether `num_bytes` more may be sent today; counted if so."""
        total = self.uploaded_bytes + num_bytes
        if self.limits.max_upload_bytes is not None and total > self.limits.max_upload_bytes:
            return False
        self._day, self._uploaded_bytes = self._now().date().isoformat(), total
        self._save()
        return True

    def _save(self) -> None:
        # At most once a second: a session's steps are counted too.
        if self.limits.max_upload_bytes is not None and time.monotonic() - self._saved_at > 1.0:
            self._saved_at = time.monotonic()
            self.flush()

    def flush(self) -> None:
        table = {"day": self._day, "bytes": self._uploaded_bytes}
        write_whole(self._file, json.dumps(table).encode())

    def pause_reason(self) -> str:
        """Why the peer must pause now; empty when it need not."""
        hours = self.limits.hours
        if hours is not None and not in_hours(hours, self._now().hour):
            return f"outside --only-hours {hours[0]}-{hours[1]}"
        if self.limits.pause_on_battery and self._is_on_battery():
            return "on battery (--pause-on-battery)"
        return ""

    def free_bytes(self) -> int:
        """Memory this process may still take; a large number without a limit."""
        if self.limits.max_memory_bytes is None:
            return int(psutil.virtual_memory().available)
        return self.limits.max_memory_bytes - int(psutil.Process().memory_info().rss)

    def need_memory(self, num_bytes: int, what: str) -> None:
        """Refuse before loading rather than die while loading. Raises MemoryLimitError."""
        free = self.free_bytes()
        if num_bytes > free:
            raise MemoryLimitError(
                f"{what} needs {num_bytes / 1e6:.0f} MB, {max(free, 0) / 1e6:.0f} MB are left",
                rule=f"limits: {self.limits}",
                way_out="raise --max-memory or take fewer blocks with --blocks",
            )
