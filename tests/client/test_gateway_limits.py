"""Keys, limits and the days' counts, without sockets: time is passed in."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seshu_swarm.client.gateway.days import StoredDays
from seshu_swarm.client.gateway.keys import NOBODY, Key, KeyRing
from seshu_swarm.client.gateway.limits import (
    DAY_SECONDS,
    Allowance,
    Allowances,
    DaysInMemory,
    Slots,
)
from seshu_swarm.client.gateway.refusals import RefusedError
from seshu_swarm.errors import ResourceError, UsageError

SECRET = "sk-0123456789abcdef"
OTHER = "sk-fedcba9876543210"


def read(folder: Path, text: str) -> KeyRing:
    path = folder / "keys.toml"
    path.write_text(text, encoding="utf-8")
    return KeyRing.read(path)


def test_a_key_is_known_by_itself_or_by_its_digest(tmp_path: Path) -> None:
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    ring = read(
        tmp_path,
        f'[[key]]\nname = "asha"\nkey = "{SECRET}"\nrequests_per_minute = 3\n'
        f'[[key]]\nname = "ravi"\nsha256 = "{digest}"\ntokens_per_day = 9\n',
    )
    asha, ravi = ring.identify(f"Bearer {SECRET}"), ring.identify(f"bearer  {OTHER} ")
    assert (asha.name, asha.requests_per_minute, asha.tokens_per_day) == ("asha", 3, None)
    assert (ravi.name, ravi.requests_per_minute, ravi.tokens_per_day) == ("ravi", None, 9)
    for wrong in (None, "", "Bearer", "Bearer ", f"Basic {SECRET}", SECRET):
        with pytest.raises(RefusedError, match="KEY_MISSING"):
            ring.identify(wrong)
    for wrong in (SECRET[:-1], SECRET + "x", digest, "\udce9"):
        with pytest.raises(RefusedError, match="KEY_UNKNOWN"):
            ring.identify(f"Bearer {wrong}")
    assert SECRET not in repr(ring) + repr(asha)


def test_without_keys_everybody_is_nobody() -> None:
    assert KeyRing().identify(None) is NOBODY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no list of keys"),
        ("key = 3", "no list of keys"),
        ('[[key]]\nname = "a"\nkey = "0123456789abcdef"\n[x]\n', "no list of keys"),
        ("key = [", "is not TOML"),
        ('[[key]]\nname = "a"\n', "both or neither"),
        (f'[[key]]\nname = "a"\nkey = "{SECRET}"\nsha256 = "{"0" * 64}"\n', "both or neither"),
        ('[[key]]\nname = "a"\nkey = "short"\n', "key 1: key: .*16 characters"),
        ('[[key]]\nname = "a"\nsha256 = "XY"\n', "key 1: sha256: "),
        (f'[[key]]\nkey = "{SECRET}"\n', "key 1: name: "),
        (f'[[key]]\nname = "a"\nkey = "{SECRET}"\nlimit = 3\n', "key 1: limit: "),
        (f'[[key]]\nname = "a"\nkey = "{SECRET}"\ntokens_per_day = 0\n', "tokens_per_day: "),
        (f'[[key]]\nname = "a"\nkey = "{SECRET}"\n' * 2, "names a key twice"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        read(tmp_path, text)
    assert SECRET not in str(refused.value) and "short" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the keys .*nowhere"):
        KeyRing.read(tmp_path / "nowhere")


def test_requests_are_counted_over_the_last_minute() -> None:
    allowance = Allowance(Key("a", b"", requests_per_minute=2))
    allowance.count_request(100.0)
    allowance.count_request(130.0)
    with pytest.raises(RefusedError) as refused:
        allowance.count_request(145.5)
    assert refused.value.retry_after_seconds == 15  # the first is a minute old at 160
    with pytest.raises(RefusedError):
        allowance.count_request(159.9)
    allowance.count_request(160.0)
    with pytest.raises(RefusedError):
        allowance.count_request(160.0)


def test_tokens_are_reserved_and_given_back() -> None:
    allowance = Allowance(Key("a", b"", tokens_per_day=10))
    now = 20 * DAY_SECONDS + 100.0
    day = allowance.reserve(8, now)
    with pytest.raises(RefusedError, match="3 tokens asked for, 2 of 10 left") as refused:
        allowance.reserve(3, now)
    assert refused.value.retry_after_seconds == DAY_SECONDS - 100
    allowance.give_back(5, day)
    assert allowance.reserve(7, now) == day == 20
    assert allowance.used_tokens(20) == 10


@pytest.mark.parametrize("are_stored", [False, True])
def test_a_new_day_begins_afresh_and_owes_the_old_one_nothing(
    tmp_path: Path, are_stored: bool
) -> None:
    days = StoredDays(tmp_path / "days") if are_stored else DaysInMemory()
    allowance = Allowance(Key("a", b"", tokens_per_day=10), days)
    yesterday = allowance.reserve(10, DAY_SECONDS - 1)
    allowance.reserve(10, DAY_SECONDS)
    allowance.give_back(10, yesterday)
    with pytest.raises(RefusedError):
        allowance.reserve(1, DAY_SECONDS + 1)


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), max_size=30))
def test_a_day_never_gives_more_than_its_tokens(asks: list[tuple[int, float]]) -> None:
    """Whatever is reserved and how much of it is used, what was used stays within the limit."""
    allowance, used = Allowance(Key("a", b"", tokens_per_day=50)), 0
    for num, share in asks:
        try:
            day = allowance.reserve(num, 5.0)
        except RefusedError:
            assert used + num > 50
            continue
        used += int(num * share)
        allowance.give_back(num - int(num * share), day)
    assert used == allowance.used_tokens(0) <= 50


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "give back"]),
            st.sampled_from(["a", "b"]),
            st.integers(0, 3),
            st.integers(0, 30),
        ),
        max_size=20,
    )
)
def test_stored_days_count_as_those_in_memory(steps: list[tuple[str, str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stored, memory = StoredDays(Path(folder, "days")), DaysInMemory()
        for step, name, day, num in steps:
            if step == "add":
                assert stored.try_add(name, day, num, 50) == memory.try_add(name, day, num, 50)
            else:
                stored.give_back(name, day, num)
                memory.give_back(name, day, num)
            for which in range(4):
                assert stored.used(name, which) == memory.used(name, which)


def test_a_restart_gives_nobody_a_second_day(tmp_path: Path) -> None:
    key, now = Key("asha", b"", tokens_per_day=10), 20 * DAY_SECONDS + 5.0
    before = Allowances(StoredDays(tmp_path / "state" / "days")).of(key)
    before.give_back(2, before.reserve(8, now))
    after = Allowances(StoredDays(tmp_path / "state" / "days"))
    with pytest.raises(RefusedError, match="5 tokens asked for, 4 of 10 left"):
        after.of(key).reserve(5, now)
    after.of(key).reserve(4, now)
    after.of(Key("ravi", b"", tokens_per_day=10)).reserve(10, now)
    after.of(key).reserve(10, now + DAY_SECONDS)


KILLED = """
import os, sys
from pathlib import Path
from seshu_swarm.client.gateway.days import StoredDays
assert StoredDays(Path(sys.argv[1])).try_add("asha", 3, 7, 10)
os._exit(9)
"""


def test_what_a_killed_gateway_had_reserved_is_counted(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "days")], check=False)
    assert done.returncode == 9
    days = StoredDays(tmp_path / "days")
    assert days.used("asha", 3) == 7
    assert not days.try_add("asha", 3, 4, 10) and days.try_add("asha", 3, 3, 10)


def test_two_gateways_of_one_folder_share_the_day(tmp_path: Path) -> None:
    gateways = [StoredDays(tmp_path / "days") for _ in range(2)]

    def ask(index: int) -> bool:
        return gateways[index % 2].try_add("asha", 3, 1, 6)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(ask, range(12))) == 6
    assert gateways[0].used("asha", 3) == 6


def test_a_file_that_holds_no_days_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "days").write_bytes(b"no database, for certain" * 100)
    with pytest.raises(ResourceError, match=r"cannot count tokens in .*/days"):
        StoredDays(tmp_path / "days")
    days = StoredDays(tmp_path / "later")
    assert days.try_add("asha", 3, 7, 10)
    (tmp_path / "later").write_bytes(b"no database, for certain" * 100)
    for left_over in tmp_path.glob("later-*"):
        left_over.unlink()
    with pytest.raises(ResourceError, match="move the file away"):
        days.try_add("asha", 3, 1, 10)
    days.give_back("asha", 3, 7)
    assert "7 tokens of key 'asha' stay counted" in caplog.text


def test_each_key_has_its_own_allowance() -> None:
    allowances, one, two = Allowances(), Key("a", b"1"), Key("b", b"2")
    assert allowances.of(one) is allowances.of(one) is not allowances.of(two)


def test_slots_come_back() -> None:
    slots = Slots(2)
    slots.take()
    assert slots.try_take() and not slots.try_take()
    with pytest.raises(RefusedError, match=r"SESSIONS_FULL.*2 at once"):
        slots.take()
    slots.give_back()
    slots.take()
    assert slots.taken == 2


def test_only_serve_loads_a_web_server() -> None:
    modules = ("client.__main__", "client.terminal.chat", "client.terminal.generate", "peer.host")
    script = ";".join(f"import seshu_swarm.{module}" for module in modules)
    script += ";import sys;print(sorted({'fastapi', 'starlette', 'uvicorn'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
