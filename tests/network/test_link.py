"""The join link survives a round trip; every wrong part is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import LinkError
from seshu_swarm.network import link
from seshu_swarm.network.link import Link

KEY = "0123456789abcdef" * 4
PEER = "/ip4/127.0.0.1/tcp/4001/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
GOOD = f"seshu://demo?key={KEY}&peer={PEER}"

RUN_IDS = st.from_regex(link.RUN_ID, fullmatch=True)
PEERS = st.sampled_from(
    [
        PEER,
        PEER.replace("/ip4/127.0.0.1/tcp/4001", "/dns/seed.example.org/tcp/443/ws"),
        PEER.replace("/ip4/127.0.0.1", "/ip6/2001:db8::1"),
        PEER.replace("/tcp/4001", "/udp/4001/quic-v1"),
        f"{PEER}/p2p-circuit/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
    ]
)
KEYS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(run_id=RUN_IDS, key=KEYS, peers=st.lists(PEERS, min_size=1, max_size=4))
def test_round_trip(run_id: str, key: str, peers: list[str]) -> None:
    made = Link(run_id, key, tuple(peers))
    assert link.parse(str(made)) == made


def test_a_link_as_it_is_printed() -> None:
    assert str(Link("demo", KEY, (PEER, PEER))) == f"{GOOD}&peer={PEER}"
    assert link.parse(f"  {GOOD}\n").peers == (PEER,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not begin with seshu://"),
        (GOOD.replace("seshu:", "https:"), "does not begin with seshu://"),
        (GOOD.replace("demo", "Demo"), "run 'Demo'"),
        (GOOD.replace("demo", "d" * 41), "1-40 of a-z"),
        (GOOD.replace("demo", ""), "run ''"),
        (GOOD.replace(KEY, KEY[:-1]), "exactly one key= of 64 hex digits"),
        (GOOD.replace(KEY, KEY.upper()), "exactly one key= of 64 hex digits"),
        (f"{GOOD}&key={KEY}", "exactly one key="),
        (GOOD.replace(f"&peer={PEER}", ""), "names no peer"),
        (GOOD.replace("/tcp/4001", ""), "/ip4/ADDRESS/tcp/PORT/p2p/ID"),
        (GOOD.replace("/p2p/Qm", "/p2p/0O"), "in the join link"),
        (f"{GOOD}&pear=1", r"unknown parts \['pear'\]"),
        (GOOD.replace("demo", "[demo"), "is not a link"),
    ],
)
def test_a_wrong_part_is_named(text: str, said: str) -> None:
    with pytest.raises(LinkError, match=said) as caught:
        link.parse(text)
    assert "copy the whole link that the coordinator printed" in str(caught.value)


@given(st.text() | st.text().map(lambda text: f"seshu://{text}"))
def test_any_text_is_a_link_or_a_link_error(text: str) -> None:
    try:
        link.parse(text)
    except LinkError:
        return
    assert text.strip().startswith("seshu://")
