"""What one worker reads at once: a range of a file, a whole file, a data set, or a language.

The pieces of a recipe, and their order, follow from the recipe and its files alone; the order of
rows in the build is that of its pieces. Knows no rows.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.data.building.lines import lines_of
from seshu_swarm.data.building.recipe import Recipe, Source
from seshu_swarm.data.jsonl import parse_table
from seshu_swarm.errors import DataError, from_os_error
from seshu_swarm.packages import digest_of

PIECE_BYTES = 16 << 20
HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """`[start, end)` counts bytes of a jsonl or text file, row groups of a Parquet file, and
    nothing elsewhere. `language` is set where the piece is that of a language."""

    number: int
    source: Source
    path: str
    start: int = 0
    end: int = 0
    size_bytes: int = 0
    language: str | None = None

    @property
    def name(self) -> str:
        return f"{self.number:05d}-{self.source.name}"

    @property
    def file(self) -> str:
        """The file's name for people."""
        return self.path.rpartition("/")[2]


def pieces_of(recipe: Recipe, folder: Path) -> list[Piece]:
    """All pieces in order. Raises DataError for files that are missing or lack the column."""
    found: list[Piece] = []
    for source in recipe.sources:
        for piece in _pieces(recipe, source, folder):
            found.append(
                Piece(
                    len(found),
                    source,
                    piece.path,
                    start=piece.start,
                    end=piece.end,
                    size_bytes=piece.size_bytes,
                    language=piece.language,
                )
            )
    return found


def _pieces(recipe: Recipe, source: Source, folder: Path) -> Iterator[Piece]:
    if source.kind in ("phrasebook", "samanantar"):
        languages = (source.language,) if source.language else recipe.languages
        for language in languages:
            # Samanantar has pairs of English with others, and no subset of its own for English.
            if source.kind == "phrasebook" or language != "en":
                yield Piece(0, source, source.path, size_bytes=1, language=language)
    elif source.kind == "hub":
        yield Piece(0, source, source.path, size_bytes=1, language=source.language)
    else:
        for file in files_of(source, folder):
            yield from _file_pieces(source, file)


def files_of(source: Source, folder: Path) -> list[Path]:
    """The files of a source's path or pattern, sorted. Raises DataError where there are none."""
    if source.kind in ("hub", "samanantar", "phrasebook"):
        return []
    path = Path(source.path).expanduser()
    whole = path if path.is_absolute() else folder / path
    found = sorted(
        p for p in Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))) if p.is_file()
    )
    if not found:
        raise DataError(
            f"source {source.name!r}: no file matches {whole}",
            rule="a path is relative to the recipe's folder; * and ** stand for names",
            way_out="correct the source's path",
        )
    return found


def _file_pieces(source: Source, file: Path) -> Iterator[Piece]:
    try:
        size_bytes = file.stat().st_size
    except OSError as error:
        raise from_os_error(error, str(file)) from error
    if source.kind == "parquet":
        yield from _parquet_pieces(source, file, size_bytes)
    elif source.kind == "csv":
        check_columns(source, str(file), csv_columns(file))
        # A quoted field may hold newlines, so that no place inside is sure to begin a row.
        yield Piece(0, source, str(file), size_bytes=size_bytes)
    else:
        if source.kind == "jsonl":
            check_columns(source, str(file), _first_keys(file))
        for start in range(0, max(1, size_bytes), PIECE_BYTES):
            end = min(size_bytes, start + PIECE_BYTES)
            yield Piece(0, source, str(file), start=start, end=end, size_bytes=end - start)


def _parquet_pieces(source: Source, file: Path, size_bytes: int) -> Iterator[Piece]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        parquet = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"source {source.name!r}: {file} is not Parquet: {error}", rule="a .parquet file"
        ) from None
    check_columns(source, str(file), parquet.schema_arrow.names)
    groups = parquet.metadata.num_row_groups
    for group in range(groups):
        share = size_bytes // groups
        yield Piece(0, source, str(file), start=group, end=group + 1, size_bytes=share)


def csv_columns(file: Path) -> list[str]:
    """The header of a CSV file; none of a file that is empty or not UTF-8."""
    import csv

    for line in lines_of(file, 0, HEAD_BYTES, max_bytes=HEAD_BYTES):
        try:
            text = (line.data or b"").decode("utf-8-sig")
        except UnicodeDecodeError:
            return []
        return next(iter(csv.reader([text])), [])
    return []


def _first_keys(file: Path) -> list[str]:
    """Keys of the first line that is a table; none where no line near the beginning is."""
    for line in lines_of(file, 0, HEAD_BYTES, max_bytes=HEAD_BYTES):
        try:
            return list(parse_table((line.data or b"").removeprefix(b"\xef\xbb\xbf")))
        except DataError:
            continue
    return []


def check_columns(source: Source, place: str, columns: Sequence[str]) -> None:
    """Refuse a file without the columns that the source names; a file without any passes."""
    for wanted in (source.text, source.language_column):
        if wanted and columns and wanted not in columns:
            near = difflib.get_close_matches(wanted, columns, n=1)
            raise DataError(
                f"source {source.name!r}: {place} has no column {wanted!r}; "
                f"it has {', '.join(map(str, columns[:12]))}",
                rule="text and language_column name columns of the source",
                way_out=f"did you mean {near[0]!r}?" if near else "correct the recipe",
            )


def inputs_of(recipe: Recipe, folder: Path) -> dict[str, str]:
    """Name of each input file as the recipe sees it → its SHA-256: sources, hold-outs, word lists.

    Raises DataError, ResourceError.
    """
    found: dict[str, str] = {}
    for source in recipe.sources:
        for number, file in enumerate(files_of(source, folder)):
            found[f"{source.name}/{number:04d}/{file.name}"] = _digest(file)
    for name in (*recipe.holdouts, *recipe.words.refusals, *recipe.words.bad_words):
        found[name] = _digest(folder / Path(name).expanduser())
    return found


def _digest(file: Path) -> str:
    try:
        return digest_of(file)
    except OSError as error:
        raise from_os_error(error, str(file)) from error


def digest_of_inputs(recipe: Recipe, inputs: dict[str, str], code: str) -> str:
    """One digest for everything the output follows from."""
    lines = [code, recipe.digest, *(f"{name} {found}" for name, found in sorted(inputs.items()))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
