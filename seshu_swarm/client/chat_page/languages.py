"""Languages as a person chooses them: the name in its own script, the direction, first questions.

Everything comes from Unicode CLDR by Babel, as the built-in text does; the questions have the form
of its rows (`data/phrases`), so that a model which was trained on those knows what is meant. Pure.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from seshu_swarm.data.names import locale_of
from seshu_swarm.data.scripts import SCRIPT_OF
from seshu_swarm.errors import DataError

DAY = datetime.date(1950, 1, 26)  # India's constitution came into force
DISTANT = datetime.timedelta(days=3)
ASKED_OF_ENGLISH = "hi"  # English names are asked for by another language's


@lru_cache(maxsize=256)
def described(code: str) -> dict[str, Any]:
    """Code, names, direction and questions; of a language that CLDR lacks, the code alone."""
    rtl = SCRIPT_OF.get(code) == "Arabic"
    try:
        locale = locale_of(code)
    except DataError:
        return _table(code, code, code, rtl=rtl, questions=())
    native, english = locale.get_display_name(code), locale.get_display_name("en")
    rtl = rtl or locale.text_direction == "rtl"
    return _table(code, native, english, rtl=rtl, questions=_questions(code, locale))


def all_described(codes: Iterable[str]) -> list[dict[str, Any]]:
    """In the order of the run."""
    return [described(code) for code in dict.fromkeys(codes)]


def _table(
    code: str, name: str, english: str, *, rtl: bool, questions: Iterable[str]
) -> dict[str, Any]:
    return {
        "code": code,
        "name": name,
        "english": english,
        "dir": "rtl" if rtl else "ltr",
        "questions": list(questions),
    }


def _questions(code: str, locale: Any) -> Iterator[str]:
    """Names, a currency, a date and a time; each is an instruction and, below, what it is about."""
    from babel import dates

    native = locale.get_display_name(code)
    asked = locale_of(ASKED_OF_ENGLISH if code == "en" else "en")
    yield f"Name of this territory in {native}\n{asked.territories['IN']}"
    if code == "en":
        yield f"Name of this language in {native}\n{asked.languages['ta']}"
    if country := locale.territories.get("JP"):
        yield f"currency, {native}\n{country}"
    yield f"{native}: date\n{DAY.isoformat()}"
    if code != "en":
        span = dates.format_timedelta(
            -DISTANT, granularity="day", threshold=1e9, add_direction=True, locale="en"
        )
        yield f"time, {native}\n{span}"
