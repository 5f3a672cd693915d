"""Rows and lines of text in which a language's own names, dates and amounts are used.

Each function draws from `rng` and returns what it drew; the words are CLDR's, through Babel. Knows
no corpus.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Mapping, Sequence
from typing import Any

from seshu_swarm.data.names import Name, locale_of, names_of
from seshu_swarm.data.scripts import language_of_answer
from seshu_swarm.data.text import Row

CURRENCY_DAY = datetime.date(2024, 1, 1)  # not today: the rows must not change with the calendar
NUM_DATES = 150
NUM_AMOUNTS = 120
NUM_QUANTITIES = 120
NUM_INTERVALS = 80
# `overlap` takes a shared text of 32 bytes for a copy; a name is no copy.
SHORT_NAME_BYTES = 30

NAME_FORMS = (
    "{english} name of this {kind}",
    "Name of this {kind} in {native}",
    "This {kind} in {english}",
    "{native}",
)
FORMS = ("{what} in {english}", "{what}, {native}", "{native}: {what}", "{english} {what}")


def ask(language: str, what: str, rng: random.Random) -> str:
    """An instruction, in one of a few wordings, that asks for `what` in the language."""
    locale = locale_of(language)
    english, native = locale.get_display_name("en"), locale.get_display_name(language)
    return rng.choice(FORMS).format(what=what, english=english, native=native)


def name_rows(language: str, sources: Sequence[str], rng: random.Random) -> list[Row]:
    """One row per name: its English name is asked in the language.

    English names are asked for by the name in one of `sources`, else by CLDR's code.
    """
    locale = locale_of(language)
    english, native = locale.get_display_name("en"), locale.get_display_name(language)
    given = [_natives(source) for source in sources] if language == "en" else []
    rows = []
    for name in names_of(language):
        form = rng.choice(NAME_FORMS).format(kind=name.kind, english=english, native=native)
        asked = name.english
        if language == "en":
            table: Mapping[tuple[str, str], str] = rng.choice(given) if given else {}
            asked = table.get((name.kind, name.code), name.code)
        rows.append(Row(form, asked, name.native, language))
    return rows


def _natives(language: str) -> dict[tuple[str, str], str]:
    return {(name.kind, name.code): name.native for name in names_of(language)}


def currency_rows(language: str, rng: random.Random) -> list[Row]:
    """The money of each territory, asked by the territory's name in the language."""
    from babel import numbers

    native = _natives(language)
    rows = []
    for name in (n for n in names_of(language) if n.kind == "territory" and len(n.code) == 2):
        codes = numbers.get_territory_currencies(name.code, CURRENCY_DAY, CURRENCY_DAY)
        answer = native.get(("currency", codes[0])) if codes else None
        if answer:
            rows.append(Row(ask(language, "currency", rng), name.native, answer, language))
    return rows


def date_rows(language: str, rng: random.Random) -> list[Row]:
    """Dates in numbers, answered in words with the day of the week."""
    from babel import dates

    locale = locale_of(language)
    rows = []
    for day in some_days(NUM_DATES, rng):
        answer = dates.format_date(day, "full", locale=locale)
        rows.append(Row(ask(language, "date", rng), day.isoformat(), answer, language))
    return rows


def some_days(num_days: int, rng: random.Random) -> list[datetime.date]:
    """Distinct days of the years 1950 to 2049."""
    first = datetime.date(1950, 1, 1).toordinal()
    last = datetime.date(2050, 1, 1).toordinal()
    return [datetime.date.fromordinal(n) for n in rng.sample(range(first, last), num_days)]


def amount_rows(language: str, rng: random.Random) -> list[Row]:
    """Amounts of money, answered in words."""
    currencies = [n for n in names_of(language) if n.kind == "currency" and is_short(n)]
    rows = []
    for name in some(currencies, NUM_AMOUNTS, rng):
        number = rng.randrange(2, 100_000)
        answer = amount(number, name, locale_of(language))
        question = f"{name.code} {number}"
        rows.append(Row(ask(language, "amount", rng), question, answer, language))
    return rows


def amount(number: int, currency: Name, locale: Any) -> str:
    """`4,500 भारतीय रुपए`: grouped and named as the language does."""
    from babel import numbers

    return str(
        numbers.format_currency(
            number, currency.code, locale=locale, format_type="name", numbering_system="latn"
        )
    )


def quantity_rows(language: str, rng: random.Random) -> list[Row]:
    """Quantities with a unit, asked in English words (for English: as symbols)."""
    units = [n for n in names_of(language) if n.kind == "unit" and is_short(n)]
    asked_length = "short" if language == "en" else "long"
    rows = []
    for name in some(units, NUM_QUANTITIES, rng):
        number = rng.randrange(2, 1_000)
        question = quantity(number, name, locale_of("en"), length=asked_length)
        answer = quantity(number, name, locale_of(language))
        if question and answer and language_of_answer(answer, language) == language:
            rows.append(Row(ask(language, "quantity", rng), question, answer, language))
    return rows


def quantity(number: int, unit: Name, locale: Any, *, length: str = "long") -> str:
    """`12 किलोमीटर`, or nothing where Babel would fall back to CLDR's code."""
    from babel import units

    text = str(units.format_unit(number, unit.code, length=length, locale=locale))
    return "" if unit.code in text else text


def interval_rows(language: str, rng: random.Random) -> list[Row]:
    """`3 days ago` and `in 2 hours` in the language; none for English, which is the question."""
    from babel import dates

    rows: list[Row] = []
    if language == "en":
        return rows
    size_seconds = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
    spans = [(unit, n * sign) for unit in size_seconds for n in range(2, 24) for sign in (-1, 1)]
    for unit, number in rng.sample(spans, NUM_INTERVALS):
        seconds = number * size_seconds[unit]
        question, answer = (
            dates.format_timedelta(
                datetime.timedelta(seconds=seconds),
                granularity=unit,
                threshold=1e9,  # never the next larger unit
                add_direction=True,
                locale=locale_of(code),
            )
            for code in ("en", language)
        )
        if language_of_answer(answer, language) == language:
            rows.append(Row(ask(language, "time", rng), question, answer, language))
    return rows


def is_short(name: Name) -> bool:
    return len(name.native.encode()) <= SHORT_NAME_BYTES


def some(names: Sequence[Name], num_names: int, rng: random.Random) -> list[Name]:
    """At most `num_names` distinct names."""
    return rng.sample(names, min(num_names, len(names)))
