"""Line and bar charts by pygal, as SVG to stand inside a page.

Drawn on the server, so that they are there at first paint and without script. What pygal adds for
pages of its own (a style sheet, a script, marks for its tooltips) is taken off: the page's policy
would refuse it, and colours come from the page's style, light or dark. What is left is checked
against a list of elements and attributes.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

WIDTH, HEIGHT, BAR_HEIGHT = 480, 230, 150
LABEL = 15
# Beyond any step and any loss; NaN is below nothing.
MAX_X, MAX_Y, MAX_POINTS = 1e12, 1e6, 2_000
# Above this many points in all, single points are not marked.
MAX_DOTS = 60
ELEMENTS = frozenset({"svg", "g", "path", "rect", "circle", "text", "line", "title"})
ATTRIBUTES = frozenset(
    {"class", "cx", "cy", "d", "height", "r", "rx", "ry", "transform", "viewBox", "width", "x", "y"}
)
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Line:
    """Points (x, y) in the order of x; `name` is for who points at one."""

    name: str
    points: Points


@dataclass(frozen=True)
class Axes:
    """What a chart says to those who do not see it, and what its upright axis counts."""

    title: str
    y: str
    y_places: int = 2


@lru_cache(maxsize=64)
def lines(axes: Axes, drawn: tuple[Line, ...]) -> Markup:
    """One line each, in the colours k0, k1, … of the page."""
    pygal = _pygal()

    num_points = sum(len(line.points) for line in drawn)
    chart = pygal.XY(show_dots=num_points <= MAX_DOTS, dots_size=3, **_options(axes))
    for line in drawn:
        chart.add(line.name, _drawable(line.points))
    return _markup(chart, axes)


@lru_cache(maxsize=64)
def bars(axes: Axes, labels: tuple[str, ...], values: tuple[float, ...]) -> Markup:
    """One bar for each label, from zero."""
    pygal = _pygal()

    every = max(1, len(labels) // 12)
    options = _options(axes) | {"show_minor_x_labels": False, "height": BAR_HEIGHT}
    chart = pygal.Bar(x_labels_major_every=every, include_x_axis=True, **options)
    chart.x_labels = list(labels)
    chart.add(axes.y, list(values))
    return _markup(chart, axes)


@lru_cache(maxsize=1)
def _pygal() -> ModuleType:
    """The library without its hook into the import of every other module.

    The hook is of a form that Python 3.12 no longer calls and 3.11 warns of; it is for maps alone.
    """
    import pygal

    sys.meta_path[:] = [x for x in sys.meta_path if not isinstance(x, pygal.PluginImportFixer)]
    return pygal  # type: ignore[no-any-return]


def _drawable(points: Points) -> list[tuple[float, float]]:
    """Finite points of a size that scales are made for, the newest of too many."""
    fits = [(x, y) for x, y in points if abs(x) < MAX_X and abs(y) < MAX_Y]
    return fits[-MAX_POINTS:]


def _options(axes: Axes) -> dict[str, Any]:
    _pygal()
    from pygal.style import Style

    # Room for labels as large as the style has them on a phone.
    style = Style(label_font_size=LABEL, major_label_font_size=LABEL)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "margin": 4,
        "margin_right": 26,
        "spacing": 14,
        "style": style,
        "js": [],
        "css": [],
        "show_legend": False,
        "truncate_label": -1,
        "disable_xml_declaration": True,
        "max_scale": 6,
        "min_scale": 3,
        "value_formatter": lambda y: f"{y:,.{axes.y_places}f}",
        "x_value_formatter": lambda x: f"{x:,.0f}",
        "no_data_text": "nothing yet",
    } | ({} if axes.y_places else {"value_formatter": lambda y: f"{y:,.0f}" if y == int(y) else ""})


def _markup(chart: Any, axes: Axes) -> Markup:
    root = ElementTree.fromstring(chart.render(is_unicode=True))
    _strip(root)
    root.set("role", "img")
    root.set("aria-label", f"{axes.title}. The table below has the numbers.")
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _strip(element: ElementTree.Element) -> None:
    """Keep known elements and attributes; a dot keeps its value as the title that browsers show."""
    element.tag = _local(element.tag)
    for name in list(element.attrib):
        if name not in ATTRIBUTES:
            del element.attrib[name]
        else:
            element.set(name, _LONG_NUMBER.sub(_rounded, element.attrib[name]))
    if element.get("class") == "dots":
        _name_value(element)
    for child in list(element):
        is_heading = element.get("class") != "dots" and _local(child.tag) == "title"
        if _local(child.tag) not in ELEMENTS or is_heading or _is_empty(child):
            element.remove(child)
        else:
            _strip(child)


def _name_value(dots: ElementTree.Element) -> None:
    for child in dots.iter():
        if child.get("class") == "value":
            child.tag, child.attrib = "title", {}


def _is_empty(element: ElementTree.Element) -> bool:
    """A group of nothing, or a guide whose label is empty: half a peer."""
    if _local(element.tag) != "g":
        return False
    labels = [one for one in element if _local(one.tag) == "text"]
    is_unnamed = element.get("class") == "guides" and all(not one.text for one in labels)
    return is_unnamed or not len(element)


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.1f}"


def _local(tag: Any) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
