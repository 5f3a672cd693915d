"""Lines of files in ranges: whatever the ranges, all lines come once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seshu_swarm.data.building import lines
from seshu_swarm.data.building.lines import lines_of, paragraphs_of

CONTENT = st.lists(
    st.sampled_from([b"a", b"bb", b"ccccc", b" ", b"\n", b"\r\n", b"\r", b"\n\n"]), max_size=40
).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=4)
SETTINGS = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 3)


def ranges(size: int, cuts: list[int]) -> list[tuple[int, int]]:
    at = sorted({0, size, *(cut for cut in cuts if cut < size)})
    return list(pairwise(at))


@SETTINGS
@given(content=CONTENT, cuts=CUTS)
def test_ranges_share_all_lines_out(tmp_path: Path, content: bytes, cuts: list[int]) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    found = [
        line
        for start, end in ranges(len(content), cuts)
        for line in lines_of(path, start, end, max_bytes=100)
    ]
    assert [line.data for line in found] == content.splitlines()
    for line in found:
        assert line.data is not None and content[line.at :].startswith(line.data)


@SETTINGS
@given(content=CONTENT, cuts=CUTS)
def test_ranges_share_all_paragraphs_out(tmp_path: Path, content: bytes, cuts: list[int]) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    grouped: list[list[bytes]] = [[]]
    for line in content.splitlines():
        if line.strip():
            grouped[-1].append(line)
        else:
            grouped.append([])
    expected = [b"\n".join(some) for some in grouped if some]
    for most in (7, 100):
        found = [
            paragraph.data
            for start, end in ranges(len(content), cuts)
            for paragraph in paragraphs_of(path, start, end, max_bytes=most)
        ]
        assert found == [text if len(text) <= most else None for text in expected]


@SETTINGS
@given(content=CONTENT, cuts=CUTS)
def test_lines_that_are_too_long_are_told_and_the_others_kept(
    tmp_path: Path, content: bytes, cuts: list[int]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    found = [
        line.data
        for start, end in ranges(len(content), cuts)
        for line in lines_of(path, start, end, max_bytes=4)
    ]
    assert found == [line if len(line) <= 4 else None for line in content.splitlines()]
