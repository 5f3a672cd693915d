"""Which letters a language is written in, and the language a row's answer is really in.

Blocks from the Unicode character database. A language that is not listed is not checked. Indic
numerals and vowel signs count as the script's; punctuation (the danda lies in the Devanagari block
but serves all) and ASCII digits count for none.
"""

from __future__ import annotations

import re

BLOCKS = {
    "Arabic": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufeff",
    "Bengali": "\u0980-\u09ff",
    "Cyrillic": "\u0400-\u052f",
    "Devanagari": "\u0900-\u0963\u0966-\u097f\ua8e0-\ua8ff",
    "Gujarati": "\u0a80-\u0aff",
    "Gurmukhi": "\u0a00-\u0a7f",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff",
    "Kannada": "\u0c80-\u0cff",
    "Latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "Malayalam": "\u0d00-\u0d7f",
    "Meitei": "\u0980-\u09ff\uaae0-\uaaff\uabc0-\uabff",  # Manipuri is written in both
    "Ol Chiki": "\u1c50-\u1c7f",
    "Oriya": "\u0b00-\u0b7f",
    "Sinhala": "\u0d80-\u0dff",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Thai": "\u0e00-\u0e7f",
}
SCRIPT_OF = {
    **dict.fromkeys(("ar", "ks", "sd", "ur"), "Arabic"),
    **dict.fromkeys(("as", "bn"), "Bengali"),
    **dict.fromkeys(("bho", "brx", "doi", "hi", "kok", "mai", "mr", "ne", "sa"), "Devanagari"),
    **dict.fromkeys(("en", "es", "tr", "vi"), "Latin"),
    "gu": "Gujarati",
    "kn": "Kannada",
    "ml": "Malayalam",
    "mni": "Meitei",
    "or": "Oriya",
    "pa": "Gurmukhi",
    "ru": "Cyrillic",
    "sat": "Ol Chiki",
    "si": "Sinhala",
    "ta": "Tamil",
    "te": "Telugu",
    "th": "Thai",
    "zh": "Han",
}
ASSUMED = "en"
MINIMUM_SHARE = 0.25

_OF = {name: re.compile(f"[{blocks}]") for name, blocks in BLOCKS.items()}
_ANY_LETTER = re.compile(r"[^\W\d_]")


def script_share(text: str, language: str) -> float | None:
    """Share of the letters of `text` that are of the language's script; None: cannot be said.

    None for a text without letters and for a language that is not listed.
    """
    if language not in SCRIPT_OF:
        return None
    own = len(_OF[SCRIPT_OF[language]].findall(text))
    letters = len(_ANY_LETTER.findall(text))
    # Vowel signs are marks, not letters, so a native text has own > letters.
    return min(1.0, own / letters) if letters else None


def language_of_answer(output: str, declared: str) -> str:
    """The language an answer is scored in: `declared`, or English for an answer in other letters.

    An answer such as a shell command to a Hindi request has fewer than a quarter of its letters in
    Devanagari: it is no Hindi text, and its bytes say nothing of Hindi. An answer without any
    letter (a number) stays with the language of its question.
    """
    share = script_share(output, declared)
    return ASSUMED if share is not None and share < MINIMUM_SHARE else declared
