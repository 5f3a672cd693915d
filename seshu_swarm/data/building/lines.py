"""Lines of files that may be larger than memory, in byte ranges that several workers share.

A line ends with LF, CRLF or CR. A line longer than the limit is reported, never held. Knows bytes
alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from seshu_swarm.errors import from_os_error

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Line:
    """`data` is without its end; None: longer than the limit. `at` is its first byte in the file."""

    at: int
    data: bytes | None


def lines_of(path: Path, start: int, end: int, *, max_bytes: int) -> Iterator[Line]:
    """Lines whose first byte lies in `[start, end)`; ranges that touch share all lines out.

    Raises ResourceError where the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            # The byte before says whether a line begins at `start`.
            first = max(0, start - 1)
            file.seek(first)
            lines = _split(file, first, max_bytes)
            if start > 0:
                next(lines, None)
            for line in lines:
                if line.at >= end:
                    return
                yield line
    except OSError as error:
        raise from_os_error(error, str(path)) from error


def _split(file: BinaryIO, at: int, max_bytes: int) -> Iterator[Line]:
    """Every line from the file's position `at` on."""
    tail, skipped_bytes = b"", 0
    while block := file.read(BLOCK_BYTES):
        # A CR at the end of a block may be the first half of CRLF.
        while block.endswith(b"\r") and (more := file.read(1)):
            block += more
        pieces = (tail + block).splitlines(keepends=True)
        tail = b"" if pieces[-1].endswith((b"\n", b"\r")) else pieces.pop()
        for piece in pieces:
            yield _line(at, piece, max_bytes, skipped_bytes)
            at, skipped_bytes = at + skipped_bytes + len(piece), 0
        if len(tail) > max_bytes:
            tail, skipped_bytes = b"", skipped_bytes + len(tail)
    if tail or skipped_bytes:
        yield _line(at, tail, max_bytes, skipped_bytes)


def _line(at: int, piece: bytes, max_bytes: int, skipped_bytes: int) -> Line:
    data = piece.rstrip(b"\r\n")
    return Line(at, None if skipped_bytes or len(data) > max_bytes else data)


def paragraphs_of(path: Path, start: int, end: int, *, max_bytes: int) -> Iterator[Line]:
    """Runs of lines between blank ones, as LF text; one that crosses `end` belongs to this range.

    A range that does not begin the file begins behind its first blank line, and ends at the first
    blank line of the next range.
    """
    size_bytes = path.stat().st_size if path.exists() else 0
    paragraph, at, held = list[bytes](), start, 0
    is_ours = start == 0
    for line in lines_of(path, start, size_bytes + 1, max_bytes=max_bytes):
        is_blank = line.data is not None and not line.data.strip()
        if is_blank and is_ours:
            yield from _whole(paragraph, at, held, max_bytes)
            paragraph, held = [], 0
        if is_blank:
            if line.at >= end:
                return
            is_ours = True
        elif is_ours:
            at = line.at if not held else at
            # What is too long is counted, not kept.
            held += max_bytes + 2 if line.data is None else len(line.data) + 1
            if held <= max_bytes + 1:
                paragraph.append(line.data or b"")
            else:
                paragraph = []
        elif line.at >= end:
            return
    yield from _whole(paragraph, at, held, max_bytes)


def _whole(paragraph: list[bytes], at: int, held: int, max_bytes: int) -> Iterator[Line]:
    if held:
        yield Line(at, b"\n".join(paragraph) if held <= max_bytes + 1 else None)
