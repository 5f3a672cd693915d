"""What int8 costs and saves: bits per byte on text, sizes, and seconds, before and after."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.data import phrasebook
from seshu_swarm.data.own_text import UNKNOWN, files_of, read_text
from seshu_swarm.data.text import Document
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.windows import Window, num_bytes, windows_of_documents
from seshu_swarm.errors import DataError
from seshu_swarm.evaluate.bits import bits_per_byte, window_nats
from seshu_swarm.mamba.whole import WholeModel

BUILT_IN = ("hi", "ta", "bn")


@dataclass(frozen=True)
class Scored:
    """A model on some text: bits per byte, and bytes scored in a second."""

    bits_per_byte: float
    bytes_per_second: float


def windows_of(text: str | None, *, max_bytes: int) -> list[Window]:
    """Windows over the first `max_bytes` of a file or folder of running text, or of the phrasebook.

    Raises DataError.
    """
    if text is None:
        found: Mapping[str, Sequence[Document]] = phrasebook.build(BUILT_IN, 0).documents
    else:
        named = tuple({path.stem for path in files_of(text)})
        found = read_text(text, (*named, UNKNOWN), bad_rows="skip")
    return _cut(found, max_bytes // len(found))


def _cut(documents: Mapping[str, Sequence[Document]], bytes_each: int) -> list[Window]:
    """The same share of every language; a window that would pass it is left out."""
    chosen = []
    for language in sorted(documents):
        left = bytes_each
        for window in windows_of_documents(ByteTokeniser(), documents[language]):
            if window.num_bytes > left:
                break
            chosen.append(window)
            left -= window.num_bytes
    if not chosen:
        raise DataError("no text to compare on", way_out="give more with --text-bytes")
    return chosen


def score(model: WholeModel, windows: Sequence[Window]) -> Scored:
    """The first window is scored twice: kernels are chosen and memory is taken the first time."""
    window_nats(model, windows[:1])
    started = time.perf_counter()
    nats = float(window_nats(model, windows).sum())
    seconds = time.perf_counter() - started
    total = num_bytes(windows)
    return Scored(bits_per_byte(nats, total), total / seconds)


def tensor_bytes(folder: Path) -> int:
    """Size of all safetensors files of a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
