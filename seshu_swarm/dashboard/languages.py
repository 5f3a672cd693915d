"""Names of languages, as Unicode CLDR has them through Babel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from seshu_swarm.dashboard.texts import plain

MAX_CODE = 12


@dataclass(frozen=True)
class Language:
    """`own` is the name in the language's own script; the code where nobody knows one."""

    code: str
    own: str
    english: str


@lru_cache(maxsize=512)
def language_of(code: str) -> Language:
    """Of an ISO code that may be anything."""
    from babel import Locale, UnknownLocaleError

    short = plain(code, MAX_CODE)
    try:
        locale = Locale.parse(short.replace("-", "_"))
    except (UnknownLocaleError, ValueError, TypeError):
        return Language(short, short, short)
    english = locale.get_language_name("en") or short
    own = locale.get_language_name(locale.language) or english
    return Language(short, own, english)
