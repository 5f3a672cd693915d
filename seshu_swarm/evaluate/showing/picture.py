"""Bits per byte as a picture: a group of bars for each language, one bar a column, errors of 95 %.

Made without pyplot, whose state all threads share, and without a display. Colours are those of Okabe
and Ito, told apart by all kinds of colour vision; floors are grey.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from seshu_swarm.evaluate.columns import MEAN, Column, Score, scores_of
from seshu_swarm.evaluate.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# https://jfly.uni-koeln.de/color
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREYS = ("#606060", "#8C8C8C", "#B8B8B8")
GROUP_WIDTH = 0.8
INCHES = (2.4, 4.6)
INCHES_A_BAR = 0.24
DOTS_PER_INCH = 150


def draw(evaluation: Evaluation, *, num_models: int, title: str) -> bytes:
    """A PNG; the first `num_models` columns are models, the others floors."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [*evaluation.texts, MEAN] if len(evaluation.texts) > 1 else list(evaluation.texts)
    bars = len(names) * (len(evaluation.columns) + 1)
    size = (INCHES[0] + max(bars * INCHES_A_BAR, INCHES[1]), INCHES[1])
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, column in enumerate(evaluation.columns):
        is_floor = place >= num_models
        colour = _colour(place - num_models if is_floor else place, is_floor=is_floor)
        _bars(axes, column, evaluation, names, place=place, colour=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("bits per native byte (lower is better)")
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    data = io.BytesIO()
    # The library's version in the file would make other bytes of the same picture.
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _bars(
    axes: Axes, column: Column, evaluation: Evaluation, names: list[str], *, place: int, colour: str
) -> None:
    count = len(evaluation.columns)
    width = GROUP_WIDTH / count
    scores = scores_of(column, evaluation.texts)
    found = [scores[name] for name in names]
    at = np.arange(len(names)) + (place - (count - 1) / 2) * width
    heights = [score.bits_per_byte for score in found]
    axes.bar(at, heights, width * 0.92, color=colour, label=column.name)
    if all(score.low is not None for score in found):
        errors = np.array([_error(score) for score in found]).T
        axes.errorbar(at, heights, errors, fmt="none", ecolor="#202020", elinewidth=1)


def _error(score: Score) -> tuple[float, float]:
    """Below and above; draws of few documents may leave the value outside them."""
    low, high = score.low or 0.0, score.high or 0.0
    return max(0.0, score.bits_per_byte - low), max(0.0, high - score.bits_per_byte)


def _colour(place: int, *, is_floor: bool) -> str:
    colours = GREYS if is_floor else COLOURS
    return colours[place % len(colours)]
