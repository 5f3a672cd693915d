"""What survived reading, on disk: for each piece and language its lines and their index.

    PIECE.LANGUAGE.jsonl    documents as lines of a shard
    PIECE.LANGUAGE.index    an INDEX value per line
    PIECE.LANGUAGE.near     a SIGNATURE value per line, where near copies are looked for

Files count once the piece's own book names them. Knows no filters.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.data.building.near import SIGNATURE, Signature
from seshu_swarm.errors import from_os_error

INDEX = np.dtype(
    [
        ("digest", "<u8"),
        ("line_bytes", "<u4"),
        ("text_bytes", "<u4"),
        ("words", "<u4"),
    ]
)
INDEX_ROW = struct.Struct("<QIII")  # the same, as bytes


class Spool:
    """Writes the files of one piece; whatever lay there before is overwritten."""

    def __init__(self, folder: Path, piece: str, *, has_near: bool) -> None:
        self._folder, self._piece, self._has_near = folder, piece, has_near
        self._files: dict[str, list[BinaryIO]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (file for files in self._files.values() for file in files):
            try:
                if error is None:
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                file.close()

    @property
    def languages(self) -> list[str]:
        return sorted(self._files)

    def add(
        self,
        language: str,
        line: bytes,
        index: tuple[int, int, int, int],
        signature: Signature | None,
    ) -> None:
        """`index` in the order of INDEX. Raises OSError where the disk is full."""
        files = self._files.get(language) or self._open(language)
        files[0].write(line)
        files[1].write(INDEX_ROW.pack(*index))
        if self._has_near:
            found = np.zeros((), dtype=SIGNATURE) if signature is None else signature
            files[2].write(found.tobytes())

    def _open(self, language: str) -> list[BinaryIO]:
        endings = ("jsonl", "index", "near") if self._has_near else ("jsonl", "index")
        paths = [spool_path(self._folder, self._piece, language, ending) for ending in endings]
        self._files[language] = [path.open("wb") for path in paths]
        return self._files[language]


def spool_path(folder: Path, piece: str, language: str, ending: str) -> Path:
    return folder / f"{piece}.{language}.{ending}"


class Index:
    """The index of a language over all pieces that have it, in order; its rows are numbered
    through. Columns come from memory maps, so that only what is asked for is read."""

    def __init__(self, folder: Path, pieces: Sequence[str], language: str) -> None:
        self.folder, self.pieces, self.language = folder, list(pieces), language
        self.parts = [self._map(piece, "index", INDEX) for piece in self.pieces]
        self.sizes = [len(part) for part in self.parts]
        self.starts = np.cumsum([0, *self.sizes])[:-1]

    def __len__(self) -> int:
        return sum(self.sizes)

    def signatures(self) -> list[NDArray[np.void]]:
        return [self._map(piece, "near", SIGNATURE) for piece in self.pieces]

    def _map(self, piece: str, ending: str, dtype: np.dtype[np.void]) -> NDArray[np.void]:
        path = spool_path(self.folder, piece, self.language, ending)
        try:
            return np.memmap(path, dtype=dtype, mode="r")
        except OSError as error:
            raise from_os_error(error, str(path)) from error
