"""The addresses of the join link: each is dialled, and named with what was found there."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import time
from dataclasses import dataclass

from seshu_swarm.doctor.findings import Finding, failed, passed, warned
from seshu_swarm.network.dial_back import GREETING

DIAL_SECONDS = 5.0
NEWEST = "check that its owner runs, and ask the maintainer for the newest link"


@dataclass(frozen=True)
class Place:
    """Where a multiaddr leads over TCP; `peer_id` of who should be there."""

    host: str
    port: int
    peer_id: str

    @classmethod
    def of(cls, address: str) -> Place | None:
        """None for an address that is no TCP address."""
        parts = address.split("/")
        if len(parts) < 5 or parts[3] != "tcp" or not parts[4].isdecimal():
            return None
        return cls(parts[2], int(parts[4]), parts[-1])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Dialled:
    """`answer` is empty where libp2p greeted, after so many seconds."""

    place: Place
    answer: str
    seconds: float = 0.0


async def dial(place: Place) -> Dialled:
    began, writer = time.monotonic(), None
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            reader, writer = await asyncio.open_connection(place.host, place.port)
            stands = time.monotonic()
            greeting = await reader.readexactly(len(GREETING))
    except TimeoutError:
        late = "says nothing" if writer else "does not answer"
        return Dialled(place, f"{late} within {DIAL_SECONDS:g} s")
    except asyncio.IncompleteReadError:
        return Dialled(place, "is another program, not a peer")
    except socket.gaierror:
        return Dialled(place, "is a name that cannot be resolved")
    except OSError as error:
        refused = error.errno == errno.ECONNREFUSED
        return Dialled(place, "refuses: nobody listens there" if refused else str(error.strerror))
    finally:
        if writer is not None:
            writer.close()
    if greeting != GREETING:
        return Dialled(place, "is another program, not a peer")
    return Dialled(place, "", stands - began)


async def check(addresses: tuple[str, ...]) -> list[Finding]:
    places = {place: None for a in addresses if (place := Place.of(a)) is not None}
    dialled = await asyncio.gather(*(dial(place) for place in places))
    return judge(list(dialled))


def judge(dialled: list[Dialled]) -> list[Finding]:
    """One that answers is enough; those that do not are named all the same."""
    is_open = any(not one.answer for one in dialled)
    findings = []
    for one in dialled:
        name = f"peer …{one.place.peer_id[-6:]}"
        if not one.answer:
            findings.append(passed(name, f"{one.place} answers after {one.seconds * 1000:.0f} ms"))
            continue
        grade = warned if is_open else failed
        findings.append(grade(name, f"{one.place} {one.answer}", _way_out(one.place)))
    if not dialled:
        findings.append(failed("peers", "no address of the link is over TCP", NEWEST))
    return findings


def _way_out(place: Place) -> str:
    try:
        is_own = ipaddress.ip_address(place.host).is_loopback
    except ValueError:
        is_own = False
    if is_own:
        return (
            "check that it runs; the link works on the coordinator's own machine only, until it is "
            "started without --host 127.0.0.1"
        )
    return NEWEST
