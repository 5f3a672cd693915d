"""The join link: `seshu://RUN?key=FINGERPRINT&peer=MULTIADDR&peer=…`.

It names the run, the fingerprint of its coordinator's key, and addresses at which the swarm can
be entered. Pure text: whether an address answers is for `dht` to find out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from seshu_swarm.errors import LinkError

RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_MULTIADDR = re.compile(
    r"(/(ip4|ip6|dns|dns4|dns6)/[^/\s]+/(tcp|udp)/\d{1,5}(/quic|/quic-v1|/ws)?"
    r"|/unix/\S+)(/p2p/[1-9A-HJ-NP-Za-km-z]+)+(/p2p-circuit(/p2p/[1-9A-HJ-NP-Za-km-z]+)?)?"
)
_SHAPE = "seshu://RUN?key=FINGERPRINT&peer=/ip4/ADDRESS/tcp/PORT/p2p/ID"


@dataclass(frozen=True)
class Link:
    run_id: str
    fingerprint: str
    peers: tuple[str, ...]

    def __str__(self) -> str:
        peers = "".join(f"&peer={quote(peer, safe='/')}" for peer in self.peers)
        return f"seshu://{self.run_id}?key={self.fingerprint}{peers}"


def parse(text: str) -> Link:
    """Read a link. Raises LinkError that names the part that is wrong."""
    try:
        parts = urlsplit(text.strip())
    except ValueError as error:
        raise _wrong(f"{text!r} is not a link ({error})") from None
    if parts.scheme != "seshu":
        raise _wrong(f"join link {text!r} does not begin with seshu://")
    if not RUN_ID.fullmatch(parts.netloc):
        raise _wrong(f"run {parts.netloc!r} in the join link", "1-40 of a-z, 0-9 and -")
    query = parse_qsl(parts.query, keep_blank_values=True)
    unknown = sorted({name for name, _ in query} - {"key", "peer"})
    if unknown:
        raise _wrong(f"join link has unknown parts {unknown}", "only key= and peer= are known")
    keys = [value for name, value in query if name == "key"]
    if len(keys) != 1 or not re.fullmatch(r"[0-9a-f]{64}", keys[0]):
        raise _wrong(f"key {keys} in the join link", "exactly one key= of 64 hex digits")
    peers = tuple(value for name, value in query if name == "peer")
    if not peers:
        raise _wrong("join link names no peer", "at least one peer= with a multiaddr")
    for peer in peers:
        if not _MULTIADDR.fullmatch(peer):
            raise _wrong(f"address {peer!r} in the join link", "/ip4/ADDRESS/tcp/PORT/p2p/ID")
    return Link(parts.netloc, keys[0], peers)


def _wrong(what: str, rule: str = f"a link reads {_SHAPE}") -> LinkError:
    return LinkError(what, rule=rule, way_out="copy the whole link that the coordinator printed")
