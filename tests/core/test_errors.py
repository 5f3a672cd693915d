"""Exit codes: one for each error, each in the table that people read."""

from __future__ import annotations

import inspect
import re

import pytest

from seshu_swarm import errors
from seshu_swarm.errors import RefusalError, SeshuError, shown

ALL = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, SeshuError)
]


def documented() -> dict[str, tuple[int, int]]:
    """Name → exit code and depth in the tree of the docstring."""
    table = {}
    for line in (errors.__doc__ or "").splitlines():
        if row := re.match(r"^    ([│├└─ ]*)(\w+Error)\s+(\d+)\s{2,}\S", line):
            table[row[2]] = (int(row[3]), len(row[1]) // 4)
    return table


def test_every_error_is_documented_with_its_own_exit_code() -> None:
    assert {e.__name__: e.exit_code for e in ALL} == {n: c for n, (c, _) in documented().items()}
    codes = [e.exit_code for e in ALL]
    assert len(set(codes)) == len(codes) > 20
    # Shells keep codes from 126 on for themselves; 130 is Ctrl-C.
    assert all(1 <= code < 126 for code in codes)
    assert errors.EXIT_INTERRUPTED == 130 and "130 is an interruption" in (errors.__doc__ or "")


def test_every_error_sets_its_code_itself_and_stands_where_the_tree_says() -> None:
    for error in ALL:
        assert "exit_code" in vars(error)
        depth = len(error.__mro__) - len(SeshuError.__mro__)
        assert documented()[error.__name__][1] == depth, error.__name__


def test_a_message_says_what_by_which_rule_and_what_to_do() -> None:
    error = SeshuError("2 is wrong", rule="1 is right", way_out="write 1")
    assert str(error) == "2 is wrong; 1 is right; write 1"
    assert str(SeshuError("2 is wrong")) == "2 is wrong"
    refused = RefusalError("MEMORY_FULL", "no room", rule="64 sessions")
    assert (refused.name, str(refused)) == ("MEMORY_FULL", "MEMORY_FULL: no room; 64 sessions")


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (None, "None"), ("x\ny", "'x\\ny'"), ([1], "list"), ({}, "dict"), (b"x", "bytes")],
)
def test_a_strangers_value_is_shown_short(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(shown("x" * 10_000)) <= 80
