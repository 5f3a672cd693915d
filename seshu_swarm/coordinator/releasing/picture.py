"""The curves as a picture: the level of each language, and what the rounds have changed.

Languages differ more from one another than from round to round, so the left panel alone would
show flat lines. Colours are those of Okabe and Ito, told apart by all kinds of colour vision;
marker and line style change with each turn through them, so that 28 languages differ.

Figures are made without pyplot, whose state all threads share, and without a display. The same
curves give the same bytes with the same matplotlib.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from seshu_swarm.coordinator.releasing.curves import Curves, Step, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# https://jfly.uni-koeln.de/color: without the yellow, which is too light for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TURNS = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"))
GREY = "#606060"
INCHES = (11.0, 4.6)
INCHES_OF_LEGEND = 2.8
DOTS_PER_INCH = 150
ROWS_OF_LEGEND = 14
# Intervals stand beside one another; those of more languages would hide the lines.
DODGE_ROUNDS = 0.05
MAX_INTERVALS = 7


def draw(curves: Curves, *, title: str) -> bytes:
    """A PNG of 1,650 dots or more in width."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = max(1, -(-len(curves) // ROWS_OF_LEGEND))
    size = (INCHES[0] + (columns - 1) * INCHES_OF_LEGEND, INCHES[1])
    layout = ConstrainedLayoutEngine(w_pad=0.12)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout=layout)
    FigureCanvasAgg(figure)
    levels, changes = figure.subplots(1, 2)
    for turn, (language, steps) in enumerate(curves.items()):
        _levels(levels, language, steps, turn)
        _changes(changes, steps, turn, num_languages=len(curves))
    _axes(levels, "Level (lower is better)", "bits per byte")
    bars = " (bars: 95 % of each round)" if len(curves) <= MAX_INTERVALS else ""
    _axes(changes, f"Change since the base{bars}", "change in bits per byte")
    changes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    _legend(figure, levels, columns)
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    data = io.BytesIO()
    # The library's version in the file would make other bytes of the same picture.
    figure.savefig(data, format="png", bbox_inches="tight", metadata={"Software": None})
    return data.getvalue()


def _style(turn: int) -> dict[str, Any]:
    marker, line = TURNS[turn // len(COLOURS) % len(TURNS)]
    colour = COLOURS[turn % len(COLOURS)]
    return {
        "color": colour,
        "marker": marker,
        "linestyle": line,
        "linewidth": 1.8,
        "markersize": 5,
    }


def _levels(axes: Axes, language: str, steps: list[Step], turn: int) -> None:
    """One piece a round: where other text was held out since, the line is broken."""
    label: str | None = _label(language, steps)
    for step in steps:
        ends = (step.before, step.after)
        axes.plot((step.since, step.round), ends, label=label, **_style(turn))
        label = None


def _changes(axes: Axes, steps: list[Step], turn: int, *, num_languages: int) -> None:
    style, total = _style(turn), 0.0
    aside = (turn - (num_languages - 1) / 2) * DODGE_ROUNDS
    for step in steps:
        axes.plot((step.since, step.round), (total, total + step.change), **style)
        low, high = total + step.low, total + step.high
        total += step.change
        if num_languages <= MAX_INTERVALS:
            x = step.round + aside
            axes.plot((x, x), (low, high), color=style["color"], linewidth=3.5, alpha=0.35)


def _label(language: str, steps: list[Step]) -> str:
    name, total = name_of(language), sum(step.change for step in steps)
    return f"{language}  {name}  {steps[-1].after:.3f} ({total:+.3f})".replace(
        "-", "\N{MINUS SIGN}"
    )


def _axes(axes: Axes, title: str, unit: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=10, loc="left", color=GREY)
    axes.set_xlabel("round (0: the base)")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, levels: Axes, columns: int) -> None:
    handles, labels = levels.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside right upper",
        frameon=False,
        fontsize=9,
        title="language, bits per byte now (change)",
        title_fontsize=9,
        alignment="left",
        ncols=columns,
    )
