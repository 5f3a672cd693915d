"""Which texts are kept, by their signals, and the name of the first rule that one breaks. Pure."""

from __future__ import annotations

from seshu_swarm.data.building.recipe import Filters
from seshu_swarm.data.building.signals import Signals


def reason_of(signals: Signals, limits: Filters) -> str | None:
    """The reason to leave a text out, or None."""
    share = signals.script_share
    rules = (
        ("too_short", signals.size_bytes < limits.min_bytes),
        ("too_short", signals.num_words < limits.min_words),
        ("too_long", signals.size_bytes > limits.max_bytes),
        ("wrong_script", share is not None and share < limits.min_script_share),
        # A text without letters has no share; in a language that is checked it is no text.
        ("no_letters", share is None and signals.num_words == 0),
        ("digits", signals.digit_share > limits.max_digit_share),
        ("symbols", signals.symbol_share > limits.max_symbol_share),
        ("long_words", signals.mean_word_letters > limits.max_mean_word_letters),
        (
            "repeated_sentences",
            signals.repeated_sentence_share > limits.max_repeated_sentence_share,
        ),
        ("repeated_runs", signals.repeated_run_share > limits.max_repeated_run_share),
        ("one_word", signals.top_word_share > limits.max_top_word_share),
    )
    return next((reason for reason, is_broken in rules if is_broken), None)
