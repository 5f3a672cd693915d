"""A raw text made whole: LF alone, NFC, no byte order mark; what is broken is named. Pure."""

from __future__ import annotations

import re
import unicodedata

from seshu_swarm.data.text import SURROGATE

NEWLINES = re.compile("\r\n?|\u2028|\u2029|\x85")
TRAILING = re.compile(r"[ \t\u00a0]+(?=\n)")
BLANK_LINES = re.compile(r"\n{3,}")
# Control characters other than tab and LF.
CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")
# Stands for what somebody before us could not read.
REPLACEMENT = "\ufffd"
# One look at a text tells whether any of the others has work to do.
ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffd\ud800-\udfff]|[ \t\u00a0]\n|\n\n\n"
)


def cleaned(text: str) -> tuple[str, str | None]:
    """The text without what carries no meaning, and its fault: what cleaning must not hide."""
    if ODD.search(text):
        if fault := _fault_of(text):
            return "", fault
        text = NEWLINES.sub("\n", text.removeprefix("\ufeff"))
        text = TRAILING.sub("", CONTROL.sub("", text))
        text = BLANK_LINES.sub("\n\n", text)
    return unicodedata.normalize("NFC", text.strip()), None


def _fault_of(text: str) -> str | None:
    if "\0" in text:
        return "nul_bytes"
    if SURROGATE.search(text):
        return "lone_surrogate"
    return "replacement_characters" if REPLACEMENT in text else None
