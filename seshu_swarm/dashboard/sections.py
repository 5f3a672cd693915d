"""The parts of the page from one snapshot, each with a fingerprint that changes when it does.

A part is rendered by its template of the same name; `views` prepare what templates only lay out.
Every value goes through `texts.plain` on its way into a template, so that nothing reaches a page
unbounded or with characters that do more than be seen; markup is escaped after that.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from seshu_swarm.dashboard import charts, coverage, texts
from seshu_swarm.dashboard.charts import Axes, Line
from seshu_swarm.dashboard.languages import language_of
from seshu_swarm.dashboard.snapshot import Change, Round, Snapshot
from seshu_swarm.errors import LinkError
from seshu_swarm.network import link

MAX_ROUNDS, MAX_DONORS, MAX_CHECKPOINTS, MAX_LANGUAGES = 200, 100, 200, 32
QUALITY = "bits per byte"

View = Callable[[Snapshot], dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """A part as HTML; equal parts have equal fingerprints."""

    name: str
    html: Markup
    fingerprint: str


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The package's templates, with autoescape and the filters that they use."""
    found = Environment(
        loader=PackageLoader("seshu_swarm.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "bytes": texts.bytes_,
        "count": texts.count,
        "duration": texts.duration,
        "iso": texts.iso,
        "language": language_of,
        "moment": texts.moment,
        "signed": texts.signed,
        "tail": texts.tail,
        "whole": texts.whole,
    }
    return found


def _safe(value: object) -> object:
    return value if isinstance(value, Markup | int | float) else texts.plain(value)


def sections_of(snapshot: Snapshot) -> tuple[Section, ...]:
    """In the order of the page."""
    return tuple(_section(name, view(snapshot), snapshot) for name, view in VIEWS.items())


def _section(name: str, view: dict[str, Any], snapshot: Snapshot) -> Section:
    template = templates().get_template(f"{name}.html.j2")
    html = Markup(template.render(snapshot=snapshot, run=snapshot.run, **view))
    return Section(name, html, hashlib.sha256(html.encode()).hexdigest()[:16])


def _now(snapshot: Snapshot) -> dict[str, Any]:
    alive = coverage.alive(snapshot.peers or (), snapshot.taken_at)
    serving = [p for p in alive if p.is_serving]
    held = coverage.holders(serving, snapshot.run.num_blocks)
    return {
        "num_peers": len(alive),
        "num_covered": sum(n > 0 for n in held),
        "num_sessions": sum(p.num_sessions for p in alive),
        "rate": coverage.tokens_per_second(serving, snapshot.run.num_blocks),
        "num_published": sum(r.is_published for r in snapshot.rounds),
        "num_ended": sum(r.state in ("published", "aborted") for r in snapshot.rounds),
        "closes_in": max(0.0, snapshot.run.round_closes_at - snapshot.taken_at),
    }


def _join(snapshot: Snapshot) -> dict[str, Any]:
    try:
        join = shlex.quote(str(link.parse(snapshot.run.link))) if snapshot.run.link else None
    except LinkError:
        join = None
    commands = {
        "donor": ("Give a machine", "python -m seshu_swarm.peer --join"),
        "user": ("Talk with the model", "python -m seshu_swarm.client chat --join"),
    }
    return {"commands": {k: (a, f"{b} {join}") for k, (a, b) in commands.items()} if join else {}}


def _coverage(snapshot: Snapshot) -> dict[str, Any]:
    num_blocks, now = snapshot.run.num_blocks, snapshot.taken_at
    alive = coverage.alive(snapshot.peers or (), now)
    held = coverage.holders(alive, num_blocks)
    axes = Axes("Peers that serve each block", "peers", y_places=0)
    labels = tuple(map(str, range(num_blocks)))
    return {
        "map": coverage.map_of(snapshot.peers or (), num_blocks, now),
        "holes": coverage.ranges([block for block, n in enumerate(held) if n == 0]),
        "chart": charts.bars(axes, labels, tuple(map(float, held))) if alive else None,
    }


def _training(snapshot: Snapshot) -> dict[str, Any]:
    found = snapshot.training
    if found is None or len(found.curve) < 2:
        return {"chart": None}
    axes = Axes("Loss of single steps of training through peers", "nats per token")
    points = tuple((float(step), loss) for step, loss in found.curve)
    return {"chart": charts.lines(axes, (Line("loss", points),))}


def _languages(snapshot: Snapshot) -> dict[str, Any]:
    """Level and change since the base; where other text was held out, changes still add up."""
    changes: dict[str, list[tuple[int, Change]]] = {}
    for one in snapshot.rounds:
        for change in one.changes if one.is_published else ():
            changes.setdefault(change.language, []).append((one.number, change))
    changes = dict(sorted(changes.items())[:MAX_LANGUAGES])
    levels, sums, totals = [], [], {}
    for code, steps in changes.items():
        name, total = language_of(code).english, 0.0
        first = steps[0][0] - 1
        level, summed = [(float(first), steps[0][1].before)], [(float(first), 0.0)]
        for number, change in steps:
            total += change.change
            level.append((float(number), change.after))
            summed.append((float(number), total))
        levels.append(Line(name, tuple(level)))
        sums.append(Line(name, tuple(summed)))
        totals[code] = total
    return {
        "changes": changes,
        "totals": totals,
        "level": charts.lines(Axes("Level of each language", QUALITY), tuple(levels))
        if levels
        else None,
        "since": charts.lines(
            Axes("Change of each language since the base", QUALITY, 3), tuple(sums)
        )
        if sums
        else None,
    }


def _rounds(snapshot: Snapshot) -> dict[str, Any]:
    newest = list(reversed(snapshot.rounds[-MAX_ROUNDS:]))
    return {
        "rounds": newest,
        "num_hidden": len(snapshot.rounds) - len(newest),
        "mean_of": mean_change,
        "better_of": lambda one: sum(c.change < 0 for c in one.changes),
    }


def mean_change(one: Round) -> float:
    """Over the round's languages."""
    return sum(c.change for c in one.changes) / max(1, len(one.changes))


def _donors(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "donors": snapshot.donors[:MAX_DONORS],
        "num_hidden": max(0, len(snapshot.donors) - MAX_DONORS),
    }


def _checkpoints(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "checkpoints": snapshot.checkpoints[:MAX_CHECKPOINTS],
        "num_hidden": max(0, len(snapshot.checkpoints) - MAX_CHECKPOINTS),
    }


VIEWS: dict[str, View] = {
    "now": _now,
    "join": _join,
    "coverage": _coverage,
    "training": _training,
    "languages": _languages,
    "rounds": _rounds,
    "donors": _donors,
    "checkpoints": _checkpoints,
}
