"""A raw text made whole: LF alone, NFC, no byte order mark; what is broken is named. Pure."""

from __future__ import annotations

import re

from seshu_swarm.data.text import SURROGATE, nfc

NEWLINES = re.compile("\r\n?|\u2028|\u2029|\x85")
TRAILING = re.compile(r"[ \t\u00a0]+(?=\n)")
BLANK_LINES = re.compile(r"\n{3,}")
# Control characters other than tab and LF, and characters that stand for what could not be read.
CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")
REPLACEMENT = "\ufffd"


def fault_of(text: str) -> str | None:
    """The reason to leave a raw text out, or None: what cleaning must not hide."""
    if "\0" in text:
        return "nul_bytes"
    if SURROGATE.search(text):
        return "lone_surrogate"
    if REPLACEMENT in text:
        return "replacement_characters"
    return None


def cleaned(text: str) -> str:
    """The text without what carries no meaning. `fault_of` it is None."""
    text = NEWLINES.sub("\n", text.removeprefix("\ufeff"))
    text = CONTROL.sub("", text)
    if " \n" in text or "\t\n" in text or "\u00a0\n" in text:
        text = TRAILING.sub("", text)
    return nfc(BLANK_LINES.sub("\n\n", text).strip())
