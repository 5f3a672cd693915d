"""Curves over rounds: the numbers are the reports', the picture shows every language."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from seshu_swarm.coordinator.releasing.curves import (
    Step,
    curves_of,
    name_of,
    table_of,
)
from seshu_swarm.coordinator.releasing.picture import COLOURS, draw
from seshu_swarm.coordinator.releasing.reports import read_reports
from seshu_swarm.errors import PackageError

INDIC = [
    *("as", "bn", "brx", "doi", "gu", "hi", "kn", "ks", "kok", "mai", "ml"),
    *("mni", "mr", "ne", "or", "pa", "sa", "sat", "sd", "ta", "te", "ur"),
]


def report(number: int, parent: str, revision: str, **languages: tuple[float, float]) -> Any:
    """As a round leaves it, as far as curves read it."""
    numbers = {
        language: {
            "before": before,
            "after": after,
            "change": {"low": after - before - 0.02, "high": after - before + 0.01},
        }
        for language, (before, after) in languages.items()
    }
    return {
        "round": number,
        "state": "published",
        "parent": parent,
        "revision": revision,
        "languages": numbers,
    }


REPORTS = [
    report(1, "base", "one", hi=(1.5, 1.4), ta=(0.9, 0.85)),
    {"round": 2, "state": "aborted", "parent": "one", "reason": "no submissions"},
    report(3, "one", "three", hi=(1.4, 1.25), ta=(0.95, 0.9)),
]


def test_a_step_goes_from_the_parents_round_to_its_own() -> None:
    curves = curves_of(REPORTS)
    assert list(curves) == ["hi", "ta"]
    assert [(s.since, s.round) for s in curves["hi"]] == [(0, 1), (1, 3)]
    assert [(s.before, s.after) for s in curves["ta"]] == [(0.9, 0.85), (0.95, 0.9)]
    first = curves["hi"][0]
    assert first.low < first.change < first.high
    assert math.isclose(first.change, -0.1)


def test_a_step_from_a_revision_that_no_round_made_begins_at_the_last_round() -> None:
    """After pretraining between rounds the parent is not the last round's checkpoint."""
    later = report(4, "pretrained", "four", hi=(1.1, 1.0))
    assert curves_of([*REPORTS, later])["hi"][-1].since == 3
    # And one made again from an older one begins there.
    revoked = report(4, "one", "four", hi=(1.4, 1.3))
    assert curves_of([*REPORTS, revoked])["hi"][-1].since == 1


def test_the_table_names_languages_and_the_rounds_that_published_nothing() -> None:
    table = json.loads(table_of(curves_of(REPORTS), REPORTS))
    assert [r["state"] for r in table["rounds"]] == ["published", "aborted", "published"]
    assert table["languages"]["ta"]["name"] == "Tamil"
    assert table["languages"]["ta"]["steps"][1]["after"] == 0.9
    assert name_of("xx") == "" and name_of("brx") == "Bodo"


def test_reports_are_read_in_the_order_of_rounds(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        path = tmp_path / f"round-{number:04d}.json"
        path.write_text(json.dumps({"round": number, "state": "aborted", "parent": "base"}))
    assert [r["round"] for r in read_reports(tmp_path)] == [2, 9, 10]
    assert read_reports(tmp_path / "nowhere") == []
    path.write_text('{"round": ')
    with pytest.raises(PackageError, match=r"round-0002\.json is no report"):
        read_reports(tmp_path)


def pixels(data: bytes) -> Any:
    return np.round(imread(io.BytesIO(data), format="png")[:, :, :3] * 255).astype(int)


def shown(data: bytes) -> set[str]:
    """Which of the languages' colours are in the picture."""
    found = {tuple(pixel) for pixel in np.unique(pixels(data).reshape(-1, 3), axis=0)}
    return {c for c in COLOURS if tuple(bytes.fromhex(c[1:])) in found}


def test_the_picture_shows_every_language_in_its_own_colour() -> None:
    curves = curves_of(REPORTS)
    both = draw(curves, title="a run")
    # Black is also the colour of the text.
    assert shown(both) - {"#000000"} == set(COLOURS[:2])
    assert shown(draw({"hi": curves["hi"]}, title="a run")) - {"#000000"} == {COLOURS[0]}
    height, width, _ = pixels(both).shape
    assert width > 1_500 and height > 600


def test_the_same_curves_give_the_same_picture_and_others_another() -> None:
    curves = curves_of(REPORTS)
    assert draw(curves, title="a run") == draw(curves_of(REPORTS), title="a run")
    assert draw(curves, title="a run") != draw({"hi": curves["hi"]}, title="a run")


def test_a_run_of_22_languages_and_one_without_rounds_are_drawn() -> None:
    """Glyphs or layouts that do not fit are warnings, and warnings are errors here."""
    steps = [Step(n, n - 1, 1.0 / n, 1.0 / (n + 1), -1.0, 0.0) for n in range(1, 12)]
    many = draw({language: steps for language in INDIC}, title="‘indic’")
    assert pixels(many).shape[1] > pixels(draw({}, title="‘indic’")).shape[1]
