"""What people see of the bench: the machine's limits, the engines, and the growth with length."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from seshu_swarm.bench.engine.book import Book, Kind, Row
from seshu_swarm.bench.engine.results import lost

UNKNOWN = "not told here"
MIB = 1 << 20


def show(book: Book, results: dict[str, float], console: Console) -> None:
    console.print(limits_table(results))
    for kind in Kind:
        console.print(engines_table(kind, book))
    console.print(growth_table(book))
    for line in losses(results):
        console.print(line)


def limits_table(results: Mapping[str, float]) -> Table:
    table = Table("rate", "per second", title="limits of this machine, float32, best of the run")
    for name, what in (
        ("gemm_flops_per_second", "matrix product, GFLOP"),
        ("exp_per_second", "exponentials, G"),
        ("read_bytes_per_second", "reading memory, GB"),
    ):
        if name in results:
            table.add_row(what, f"{results[name] / 1e9:.1f}")
    return table


def engines_table(kind: Kind, book: Book) -> Table:
    """A section for each piece of work; `x floor` is a time over the least at the measured rates."""
    table = Table("engine", "ms", "best of", "tokens/s", "x floor", title=kind.value)
    if kind is Kind.TRAINING:
        table.add_column("peak MiB")
    for work in dict.fromkeys(row.work for row in book.rows if row.kind is kind):
        table.add_row(f"[bold]{work.label}[/bold]")
        rows = [row for row in book.rows if row.kind is kind and row.work == work]
        for row in sorted(rows, key=lambda row: -row.seconds):
            table.add_row(*_cells(row, book))
        if book.rates:
            floor = rows[0].floor_seconds(book.rates)
            table.add_row("floor", f"{1e3 * floor:.1f}", "", "", "1.0")
        table.add_section()
    return table


def _cells(row: Row, book: Book) -> list[str]:
    cells = [row.engine, f"{1e3 * row.seconds:.1f}", str(row.repeats)]
    cells.append(f"{row.tokens_per_second:.0f}")
    cells.append(f"{row.seconds / row.floor_seconds(book.rates):.1f}" if book.rates else "")
    if row.kind is Kind.TRAINING and (row.work, row.engine) in book.peak_bytes:
        cells.append(_mib(book.peak_bytes[row.work, row.engine]))
    return cells


def growth_table(book: Book) -> Table:
    table = Table(
        *("tokens", "engine", "training\ntokens/s", "peak MiB"),
        *("prefill\ntokens/s", "decode\ntokens/s", "session\nMiB"),
        title="growth with length: one text, engines of the same number of parameters",
    )
    for row in book.growth:
        measured = row.measured
        table.add_row(
            *(str(row.length_tokens), row.engine, f"{row.train_tokens_per_second:.0f}"),
            _mib(measured.peak_bytes),
            _speed(row.length_tokens, measured.prefill_seconds),
            _speed(1, measured.decode_seconds),
            _mib(measured.past_bytes),
        )
    return table


def losses(results: dict[str, float]) -> list[str]:
    """Where our Mamba loses to the Transformer, in words."""
    names = lost(results)
    if not names:
        return ["our Mamba loses no comparison with the Transformer"]
    return [f"our Mamba loses: {name} = {results[name]:.2f}" for name in names]


def _speed(num_tokens: int, seconds: float | None) -> str:
    return f"{num_tokens / seconds:.0f}" if seconds else ""


def _mib(num_bytes: int | None) -> str:
    return UNKNOWN if num_bytes is None else f"{num_bytes / MIB:.1f}"
