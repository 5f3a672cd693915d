"""Plots of a summary as PNG: lengths, duplicates, and what a build kept. Labels are language codes.

Figures are made without pyplot, whose state all threads share, and without a display.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from seshu_swarm.data.inspecting.kept import Kept
from seshu_swarm.data.inspecting.summary import OfLanguage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, GREEN, GREY = "#0072B2", "#009E73", "#606060"  # Okabe and Ito's
DOTS_PER_INCH = 120
BARS_PER_OCTAVE = 2
PANELS_PER_ROW = 4


def lengths(languages: Mapping[str, OfLanguage]) -> bytes:
    """A histogram of text lengths for each language, over octaves of bytes."""
    largest = max(found.lengths.largest for found in languages.values())
    num_bins = BARS_PER_OCTAVE * largest.bit_length()
    edges = [2 ** (k / BARS_PER_OCTAVE) for k in range(num_bins + 1)]
    rows = -(-len(languages) // PANELS_PER_ROW)
    columns = min(PANELS_PER_ROW, len(languages))
    figure, panels = _figure((3.2 * columns, 2.2 * rows + 0.6), rows, columns)
    for panel, (language, found) in zip(panels, sorted(languages.items()), strict=False):
        counts = found.lengths.in_bins(edges)
        panel.bar(edges[:-1], counts, width=_widths(edges), align="edge", color=BLUE)
        panel.axvline(max(1, found.lengths.quantile(0.5)), color=GREY, linewidth=1)
        panel.set_xscale("log", base=2)
        panel.set_title(f"{language}: {found.rows} texts", fontsize=9)
        panel.tick_params(labelsize=7)
    for panel in panels[len(languages) :]:
        panel.set_axis_off()
    figure.suptitle("Length of a text in bytes (line: median)", fontsize=10)
    return _png(figure)


def duplicates(languages: Mapping[str, OfLanguage]) -> bytes:
    """The share of texts that are copies, by language."""
    shares = {language: found.repeats.share for language, found in sorted(languages.items())}
    return _bars({"copies of a text that is there": (list(shares.values()), BLUE)}, list(shares))


def kept(found: Mapping[str, Kept]) -> bytes:
    """Shares left of the rows read: after filters, and after duplicates."""
    filtered = [k.filtered / k.read if k.read else 0.0 for k in found.values()]
    unique = [k.share for k in found.values()]
    bars = {"after filters": (filtered, GREY), "after duplicates": (unique, GREEN)}
    return _bars(bars, list(found))


def _bars(bars: Mapping[str, tuple[Sequence[float], str]], languages: Sequence[str]) -> bytes:
    """Bars of each language beside one another, as per cent."""
    figure, (panel,) = _figure((max(5.0, 1.5 + 0.45 * len(languages)), 3.2), 1, 1)
    width = 0.8 / len(bars)
    for k, (label, (shares, colour)) in enumerate(bars.items()):
        places = [i + (k - (len(bars) - 1) / 2) * width for i in range(len(languages))]
        panel.bar(places, [100 * s for s in shares], width=width, color=colour, label=label)
    panel.set_xticks(range(len(languages)), languages)
    panel.set_ylabel("% of texts")
    figure.legend(fontsize=8, loc="outside upper center", ncols=len(bars))
    return _png(figure)


def _widths(edges: Sequence[float]) -> list[float]:
    return [edges[k + 1] - edges[k] for k in range(len(edges) - 1)]


def _figure(inches: tuple[float, float], rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    return figure, list(panels.flat)


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    # The library's version in the file would make other bytes of the same picture.
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
