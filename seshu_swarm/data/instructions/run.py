"""`python -m seshu_swarm data instructions SOURCE --out DIR`: rows or alternating text for a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from seshu_swarm.data.instructions.alternating import alternate
from seshu_swarm.data.instructions.config import DataInstructionsConfig
from seshu_swarm.data.jsonl import BadRows, document_line, row_line
from seshu_swarm.data.own_rows import columns_of, read_pairs, read_rows
from seshu_swarm.packages import write_whole
from seshu_swarm.program import log


def run(settings: DataInstructionsConfig) -> int:
    bad_rows: BadRows = "skip" if settings.bad_rows == "skip" else "refuse"
    folder, columns = Path(settings.out).expanduser(), columns_of(settings.columns)
    if settings.alternate:
        pairs = read_pairs(
            settings.source,
            language=settings.language,
            columns=columns,
            bad_rows=bad_rows,
            max_rows=settings.max_rows,
        )
        documents = alternate(
            pairs,
            settings.language,
            form=settings.alternate,
            document_bytes=settings.document_bytes,
        )
        path = folder / "pretrain" / f"{settings.language}.jsonl"
        _write(path, [document_line(d) for d in documents], "documents")
        return 0
    rows = read_rows(
        settings.source,
        language=settings.language,
        columns=columns,
        bad_rows=bad_rows,
        max_rows=settings.max_rows,
    )
    counts = Counter(row.language for row in rows)
    path = folder / "sft" / f"{settings.language}.jsonl"
    _write(path, map(row_line, rows), "rows", **counts)
    return 0


def _write(path: Path, lines: Iterable[str], what: str, **counts: int) -> None:
    whole = list(lines)
    write_whole(path, "".join(whole).encode("utf-8"))
    by_language = "".join(f", {language} {count}" for language, count in sorted(counts.items()))
    log.event(
        "instructions",
        f"{path}: {len(whole)} {what}{by_language}",
        path=str(path),
        **{what: len(whole)},
    )
