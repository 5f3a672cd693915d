"""A donor's limits: read from words, kept over restarts, enforced before harm is done."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import MemoryLimitError, UsageError
from seshu_swarm.peer.guest import UPLOAD_FILE, Guest, GuestConfig, Limits, in_hours

MONDAY = datetime(2026, 1, 5, 12)


def guest(state_dir: Path, *, now: datetime = MONDAY, **limits: object) -> Guest:
    settings = GuestConfig(**limits)  # type: ignore[arg-type]
    return Guest(Limits.of(settings), state_dir, now=lambda: now, is_on_battery=lambda: False)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1_500),
        ("2K", 2_000),
        ("500MB", 500_000_000),
        (" 1.5 gb ", 1_500_000_000),
        ("2T", 2 * 10**12),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert Limits.of(GuestConfig(max_memory=text)).max_memory_bytes == size
    assert Limits.of(GuestConfig(max_upload_per_day=text)).max_upload_bytes == size


@pytest.mark.parametrize(
    ("setting", "text", "flag"),
    [
        ("max_memory", "much", "--max-memory 'much'"),
        ("max_memory", "-1GB", "--max-memory"),
        ("max_memory", "1GiB", "--max-memory"),
        ("max_upload_per_day", "", "--max-upload-per-day ''"),
        ("only_hours", "22", "--only-hours '22'"),
        ("only_hours", "24-6", "--only-hours"),
        ("only_hours", "6-25", "--only-hours"),
        ("only_hours", "6-6", "--only-hours"),
        ("only_hours", "06-6", "--only-hours"),
        ("max_threads", 0, "--max-threads 0"),
    ],
)
def test_what_cannot_be_read_names_its_flag(setting: str, text: object, flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        Limits.of(GuestConfig(**{setting: text}))  # type: ignore[arg-type]


def test_the_owner_reads_the_limits_back() -> None:
    assert str(Limits()) == "none"
    limits = Limits(2 * 10**9, 3, 5 * 10**8, (22, 6), True)
    said = "memory <= 2000 MB, threads <= 3, upload <= 500 MB a day, hours 22-6, not on battery"
    assert str(limits) == said


@given(st.integers(0, 23), st.integers(0, 24), st.integers(0, 23))
def test_hours_are_half_open_and_may_pass_midnight(start: int, end: int, hour: int) -> None:
    if start == end:
        return
    allowed, at = set[int](), start
    while at != end % 24 or not allowed:  # walk the clock from start until end
        allowed.add(at)
        at = (at + 1) % 24
    assert in_hours((start, end), hour) == (hour in allowed)


@pytest.mark.parametrize(("hour", "pauses"), [(21, True), (22, False), (5, False), (6, True)])
def test_outside_its_hours_the_peer_pauses_and_says_why(
    tmp_path: Path, hour: int, pauses: bool
) -> None:
    at = MONDAY.replace(hour=hour)
    reason = guest(tmp_path, now=at, only_hours="22-6").pause_reason()
    assert reason == ("outside --only-hours 22-6" if pauses else "")


def test_on_battery_it_pauses_only_if_told_to(tmp_path: Path) -> None:
    def made(pause: bool) -> Guest:
        return Guest(Limits(pause_on_battery=pause), tmp_path, is_on_battery=lambda: True)

    assert made(False).pause_reason() == ""
    assert made(True).pause_reason() == "on battery (--pause-on-battery)"


def test_the_days_upload_is_counted_to_the_last_byte(tmp_path: Path) -> None:
    peer = guest(tmp_path, max_upload_per_day="1000")
    assert peer.allow_upload(600) and peer.allow_upload(400)
    assert not peer.allow_upload(1) and peer.allow_upload(0)
    assert peer.uploaded_bytes == 1_000


def test_a_restart_forgives_nothing_a_new_day_everything(tmp_path: Path) -> None:
    first = guest(tmp_path, max_upload_per_day="1000")
    first.allow_upload(900)
    first.flush()
    again = guest(tmp_path, max_upload_per_day="1000")
    assert again.uploaded_bytes == 900 and not again.allow_upload(101)
    tuesday = guest(tmp_path, now=MONDAY.replace(day=6), max_upload_per_day="1000")
    assert tuesday.uploaded_bytes == 0 and tuesday.allow_upload(1_000)


def test_the_first_upload_is_on_the_disk_at_once(tmp_path: Path) -> None:
    guest(tmp_path, max_upload_per_day="1000").allow_upload(10)
    assert json.loads((tmp_path / UPLOAD_FILE).read_bytes()) == {"day": "2026-01-05", "bytes": 10}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"day": "x"}', '{"day": 1, "bytes": []}'])
def test_a_broken_count_starts_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / UPLOAD_FILE).write_text(text)
    assert guest(tmp_path, max_upload_per_day="10").allow_upload(10)


def test_memory_is_refused_before_it_is_taken(tmp_path: Path) -> None:
    used = psutil.Process().memory_info().rss
    peer = guest(tmp_path, max_memory=str(used + 50_000_000))
    peer.need_memory(1_000_000, "block 0:1")
    with pytest.raises(MemoryLimitError, match=r"blocks 0:9 needs 900 MB.*fewer blocks") as caught:
        peer.need_memory(900_000_000, "blocks 0:9")
    assert "memory <=" in str(caught.value)


def test_without_a_limit_the_machine_is_the_limit(tmp_path: Path) -> None:
    free = guest(tmp_path).free_bytes()
    assert 0 < free <= psutil.virtual_memory().total
    with pytest.raises(MemoryLimitError):
        guest(tmp_path).need_memory(1 << 60, "the moon")
