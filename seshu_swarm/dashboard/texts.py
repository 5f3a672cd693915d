"""Text as it may be shown: a stranger's made harmless, numbers and times as people read them. Pure.

Markup is escaped by the templates. Here goes what no escape catches: characters that control a
terminal or turn the reading direction of what follows, and length without end.
"""

from __future__ import annotations

import datetime
import math
import re

MAX_CHARACTERS = 600
REPLACEMENT = "\ufffd"
# C0 and C1 controls, surrogates, marks that turn the direction, line separators, tags, no characters.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"
)
_UNITS = ("B", "kB", "MB", "GB", "TB")
_MINUTE, _HOUR, _DAY = 60.0, 3_600.0, 86_400.0


def plain(value: object, most: int = MAX_CHARACTERS) -> str:
    """At most so many characters of it, none of which does anything but be seen.

    Zero-width joiners stay: Indic scripts need them.
    """
    text = value if isinstance(value, str) else str(value)
    cut = text[:most]
    shown = _HARMFUL.sub(REPLACEMENT, cut) if _HARMFUL.search(cut) else cut
    return shown + "…" if len(text) > most else shown


def tail(identifier: str) -> str:
    """The end of a peer's id: the beginning is the same for all."""
    return f"…{plain(identifier[-8:])}"


def bytes_(size: float) -> str:
    """Of 1,000 each, as disks are sold."""
    for unit in _UNITS:
        if size < 1_000 or unit == _UNITS[-1]:
            break
        size /= 1_000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def count(number: float) -> str:
    """31,248,640 becomes 31.2 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{number / scale:.1f} {unit}"
    return f"{number:,.0f}"


def whole(number: int) -> str:
    """20,000 with its comma."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """The largest unit that fits, rounded down."""
    if not math.isfinite(seconds):
        return "–"
    seconds = max(0.0, seconds)
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds)} s"


def moment(seconds: float) -> str:
    """2026-11-22 08:30 UTC; a dash for none."""
    return f"{at:%Y-%m-%d %H:%M} UTC" if (at := _utc(seconds)) else "–"


def iso(seconds: float) -> str:
    """For the `datetime` of a time element."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if (at := _utc(seconds)) else ""


def signed(value: float, places: int = 4) -> str:
    """With its sign; a real minus, which lines up with the plus."""
    if not math.isfinite(value):
        return "–"
    return f"{value:+.{places}f}".replace("-", "−")


def _utc(seconds: float) -> datetime.datetime | None:
    if not (math.isfinite(seconds) and 0 < seconds < 1e11):
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
