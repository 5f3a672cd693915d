"""A summary as tables for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seshu_swarm.data.inspecting.kept import Kept
from seshu_swarm.data.inspecting.summary import Summary

WIDTH = 120
SAMPLE_CHARACTERS = 160
HEADS = (
    "language",
    "texts",
    "bytes",
    "bytes/char",
    "own script",
    "5 %",
    "25 %",
    "median",
    "75 %",
    "95 %",
    "longest",
    "copies",
)


def shown(summary: Summary, kept: Mapping[str, Kept]) -> str:
    """Numbers per language, what was kept, what is broken, and samples."""
    console = Console(width=WIDTH, no_color=True)
    with console.capture() as captured:
        console.print(_numbers(summary))
        if kept:
            console.print(_kept(kept))
        for reason, count in sorted(summary.bad.items()):
            places = "; ".join(summary.examples[reason])
            console.print(escape(f"left out: {count} {reason} ({places})"), soft_wrap=True)
        for language, found in sorted(summary.languages.items()):
            for text in found.samples:
                line = " ".join(text.split())[:SAMPLE_CHARACTERS]
                console.print(escape(f"{language}: {line}"), soft_wrap=True)
    return captured.get().rstrip()


def _numbers(summary: Summary) -> Table:
    table = Table(title="Texts by language (lengths in bytes)", title_justify="left")
    for head in HEADS:
        table.add_column(head, justify="left" if head == "language" else "right")
    for language, found in sorted(summary.languages.items()):
        quantiles = [str(found.lengths.quantile(q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
        share = found.script_share
        sign = "" if found.repeats.is_exact else "~"
        table.add_row(
            language,
            str(found.rows),
            str(found.bytes),
            f"{found.bytes / max(1, found.characters):.2f}",
            "-" if share is None else f"{share:.1%}",
            *quantiles,
            str(found.lengths.largest),
            f"{sign}{found.repeats.share:.2%}",
        )
    return table


def _kept(kept: Mapping[str, Kept]) -> Table:
    table = Table(title="What the build kept", title_justify="left")
    for head in ("language", "read", "after filters", "after duplicates", "kept", "why not"):
        is_text = head in ("language", "why not")
        table.add_column(head, justify="left" if is_text else "right")
    for language, k in kept.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in k.reasons.items())
        table.add_row(
            language, str(k.read), str(k.filtered), str(k.unique), f"{k.share:.1%}", reasons
        )
    return table
