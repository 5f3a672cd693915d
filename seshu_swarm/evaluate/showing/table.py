"""Bits per byte of all columns as a table: one row a language, and their mean."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from seshu_swarm.evaluate.columns import MEAN, Column, Score, differences, scores_of
from seshu_swarm.evaluate.evaluation import Evaluation

STDERR = " stderr"


def tables_of(evaluation: Evaluation, *, about: str = "") -> Group:
    """Levels, and where there are two columns or more with errors, differences to the first."""
    first, *others = evaluation.columns
    paired = [other for other in others if other.nats and first.nats]
    return Group(
        _levels(evaluation, about), *([_differences(evaluation, paired)] if paired else [])
    )


def _levels(evaluation: Evaluation, about: str) -> Table:
    texts, columns = evaluation.texts, evaluation.columns
    table = Table(title="Bits per byte (lower is better, ±: 95 %)", caption=about)
    table.add_column("language")
    for heading in ("texts", "bytes", "per char", *(escape(c.name) for c in columns)):
        table.add_column(heading, justify="right")
    scores = [scores_of(column, texts) for column in columns]
    for language, found in texts.items():
        size = sum(text.num_bytes for text in found)
        characters = sum(len(text.text) for text in found)
        facts = (language, str(len(found)), f"{size:,}", f"{size / characters:.2f}")
        table.add_row(*facts, *_cells([score[language] for score in scores]))
    if len(texts) > 1:
        table.add_section()
        table.add_row(MEAN, "", "", "", *_cells([score[MEAN] for score in scores]))
    return table


def _cells(scores: list[Score]) -> list[str]:
    """The best of a row is bold."""
    best = min(score.bits_per_byte for score in scores)
    return [
        f"[bold]{_cell(score)}[/bold]" if score.bits_per_byte == best else _cell(score)
        for score in scores
    ]


def _cell(score: Score) -> str:
    if score.low is None or score.high is None:
        return f"{score.bits_per_byte:.3f}"
    return f"{score.bits_per_byte:.3f} ±{(score.high - score.low) / 2:.3f}"


def _differences(evaluation: Evaluation, others: list[Column]) -> Table:
    first, texts = evaluation.columns[0], evaluation.texts
    table = Table(title=f"{escape(first.name)} minus each (paired by document; negative: better)")
    table.add_column("language")
    found = [differences(first, other, texts) for other in others]
    for other in others:
        table.add_column(escape(other.name), justify="right")
    for language in texts:
        row = [pairs[language] for pairs in found]
        cells = [f"{c.delta_bits_per_byte:+.3f} ({c.low:+.3f} … {c.high:+.3f})" for c in row]
        table.add_row(language, *cells)
    return table


def tasks_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Model → task → metric → value, as the harness gave them; one row a task and metric."""
    table = Table(title="Tasks (±: standard error)")
    for heading in ("task", "items", "metric", *map(escape, found)):
        table.add_column(heading, justify="left" if heading in ("task", "metric") else "right")
    first = next(iter(found.values()))
    for task, metrics in first.items():
        names = [name for name in metrics if name != "items" and not name.endswith(STDERR)]
        for place, metric in enumerate(names):
            cells = [_measure(of_model[task], metric) for of_model in found.values()]
            head = (escape(task), f"{metrics['items']:.0f}") if place == 0 else ("", "")
            table.add_row(*head, metric, *cells)
    return table


def _measure(metrics: Mapping[str, float], metric: str) -> str:
    error = metrics.get(metric + STDERR)
    return f"{metrics[metric]:.3f}" + ("" if error is None else f" ±{error:.3f}")
