"""The built-in text: questions, answers and running text for more than a dozen languages.

Made at run time from Unicode CLDR, so that a run needs no download: names of languages,
territories, currencies, scripts and units, dates, amounts, quantities and times, as each language
writes them. Deterministic from the seed and the installed Babel. Each item is asked once, so that
a held-out answer is not given away by another wording; documents are in one language only, so that
they give no translation away, and use short names in random company, so that they share no long
runs of bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from seshu_swarm.data.names import Name, locale_of, names_of
from seshu_swarm.data.phrases import (
    amount,
    amount_rows,
    currency_rows,
    date_rows,
    interval_rows,
    is_short,
    name_rows,
    quantity,
    quantity_rows,
    some,
    some_days,
)
from seshu_swarm.data.text import Corpus, Document, Row

LANGUAGES = (
    "as",
    "bn",
    "en",
    "gu",
    "hi",
    "kn",
    "kok",
    "ml",
    "mr",
    "ne",
    "or",
    "pa",
    "sd",
    "si",
    "ta",
    "te",
    "ur",
)
DOCUMENTS_PER_LANGUAGE = 400


def build(
    languages: Sequence[str], seed: int, *, documents_per_language: int = DOCUMENTS_PER_LANGUAGE
) -> Corpus:
    """Rows and documents of each language (`LANGUAGES`, and others that CLDR covers well).

    Raises DataError for a language in which CLDR has too few names.
    """
    documents: list[Document] = []
    rows: list[Row] = []
    for language in languages:
        sources = [other for other in languages if other != "en"]
        rows += rows_of(language, sources, random.Random(f"rows {seed} {language}"))
        rng = random.Random(f"documents {seed} {language}")
        documents += documents_of(language, documents_per_language, rng)
    return Corpus.of(documents, rows)


def rows_of(language: str, sources: Sequence[str], rng: random.Random) -> list[Row]:
    """All rows of a language in random order; `sources` are what English is translated from."""
    rows = name_rows(language, sources, rng)
    for make in (currency_rows, date_rows, amount_rows, quantity_rows, interval_rows):
        rows += make(language, rng)
    rng.shuffle(rows)
    return rows


def documents_of(language: str, num_documents: int, rng: random.Random) -> list[Document]:
    """Lists, diaries and price lists, in turn."""
    names = [name for name in names_of(language) if is_short(name)]
    kinds: tuple[Callable[..., Iterator[str]], ...] = (_lists, _diary, _price_list)
    documents = []
    for i in range(num_documents):
        lines = kinds[i % len(kinds)](language, names, rng)
        documents.append(Document(f"cldr-{language}-{i:04d}", language, "\n".join(lines)))
    return documents


def _lists(language: str, names: Sequence[Name], rng: random.Random) -> Iterator[str]:
    """A few sentences that each join some names with the language's commas and its `and`."""
    from babel import lists

    for _ in range(rng.randrange(4, 8)):
        found = [name.native for name in some(names, rng.randrange(3, 8), rng)]
        yield lists.format_list(found, locale=locale_of(language))


def _diary(language: str, names: Sequence[Name], rng: random.Random) -> Iterator[str]:
    """Dates in order, each with two places."""
    from babel import dates

    places = [name for name in names if name.kind == "territory"]
    locale = locale_of(language)
    for day in sorted(some_days(rng.randrange(8, 14), rng)):
        first, second = some(places, 2, rng)
        yield f"{dates.format_date(day, 'long', locale=locale)}: {first.native} – {second.native}"


def _price_list(language: str, names: Sequence[Name], rng: random.Random) -> Iterator[str]:
    """Quantities, where they come from, on which day of the week, and what they cost."""
    locale = locale_of(language)
    days = list(locale.days["format"]["wide"].values())
    places, units, currencies = (
        [name for name in names if name.kind == kind] for kind in ("territory", "unit", "currency")
    )
    for _ in range(rng.randrange(7, 12)):
        unit, place, currency = (rng.choice(found) for found in (units, places, currencies))
        measured = quantity(rng.randrange(2, 1_000), unit, locale) or unit.native
        price = amount(rng.randrange(2, 100_000), currency, locale)
        yield f"{measured}, {place.native}, {rng.choice(days)}: {price}"
