"""Names that Unicode CLDR gives in a language, read through Babel.

A *name* is a thing (a language, a territory, a currency, a script, a unit) in English and in the
language. Which names exist depends on the installed Babel (each carries one CLDR version); its
version belongs beside any number measured on them. Knows no rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from seshu_swarm.data.scripts import language_of_answer
from seshu_swarm.data.text import check_language, nfc
from seshu_swarm.errors import DataError

MINIMUM_NAMES = 800
KINDS = ("language", "territory", "currency", "script", "unit")


@dataclass(frozen=True)
class Name:
    """`code` is CLDR's (JP, INR, length-kilometer); `native` is the name in the language."""

    kind: str
    code: str
    english: str
    native: str


def locale_of(language: str) -> Any:
    """Babel's locale. Raises DataError for a language that CLDR does not have."""
    from babel import Locale, UnknownLocaleError

    check_language(language)
    try:
        return Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        raise DataError(
            f"the built-in text has no language {language!r}",
            rule="it comes from Unicode CLDR",
            way_out="give a folder of text with --data, or leave the language out of --languages",
        ) from None


@lru_cache(maxsize=64)
def names_of(language: str) -> tuple[Name, ...]:
    """Names written in the language's own letters, in the order of kinds and codes.

    Raises DataError for a language with fewer than `MINIMUM_NAMES`.
    """
    locale = locale_of(language)
    english = {(kind, code): name for kind, code, name in _entries(locale_of("en"))}
    found = tuple(
        Name(kind, code, english[kind, code], name)
        for kind, code, name in _entries(locale)
        if (kind, code) in english and _is_own(name, english[kind, code], language)
    )
    if len(found) < MINIMUM_NAMES:
        raise DataError(
            f"CLDR has {len(found)} names in {language!r}",
            rule=f"the built-in text needs {MINIMUM_NAMES}",
            way_out="give a folder of text with --data, or leave the language out of --languages",
        )
    return found


def _is_own(name: str, english: str, language: str) -> bool:
    """Whether `name` is a name in the language and not CLDR's fallback."""
    if language == "en":
        return True
    return name != english and language_of_answer(name, language) == language


def _entries(locale: Any) -> Iterator[tuple[str, str, str]]:
    """(kind, code, name), sorted."""
    from babel import units

    tables = (locale.languages, locale.territories, locale.currencies, locale.scripts)
    for kind, table in zip(KINDS, tables, strict=False):
        for code in sorted(table):
            yield kind, code, nfc(table[code])
    for code in _unit_codes():
        try:
            name = units.get_unit_name(code, length="long", locale=locale)
        except units.UnknownUnitError:  # English has a few more than others
            continue
        if name:
            yield "unit", code, nfc(name)


@lru_cache(maxsize=1)
def _unit_codes() -> tuple[str, ...]:
    from babel import localedata

    # The only list of units Babel has is in the locale's own table.
    return tuple(sorted(localedata.load("en")["unit_display_names"]))
