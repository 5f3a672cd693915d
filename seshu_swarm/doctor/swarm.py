"""From inside the swarm: the run, the clock, how others reach this peer, and what that costs.

Joins with a key that is thrown away, so that a peer that runs here already is not disturbed; stores
nothing for others and announces nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from hivemind.dht.node import DHTNode
from hivemind.p2p import P2P, PeerID
from hivemind.proto import dht_pb2

from seshu_swarm import packages
from seshu_swarm.doctor.findings import Finding, failed, passed, size, warned
from seshu_swarm.errors import SeshuError
from seshu_swarm.network import identity, reach
from seshu_swarm.network.daemon import Listen, start_daemon
from seshu_swarm.network.dht import Found, Swarm
from seshu_swarm.network.link import Link
from seshu_swarm.network.reach import Kind, Reach
from seshu_swarm.network.signing import ALLOWED_SKEW_SECONDS, SignedRecordValidator
from seshu_swarm.packages import MANIFEST, MAX_MANIFEST_BYTES
from seshu_swarm.records.kinds import RunRecord
from seshu_swarm.stores import receiving
from seshu_swarm.stores.asking import LONG
from seshu_swarm.stores.receiving import Wanted
from seshu_swarm.streams import frames

PING_SECONDS = 5.0
# Enough to see a rate, little enough for a metered line.
MEASURED_BYTES, MEASURED_SECONDS = 4 << 20, 5.0
FORWARD = (
    "forward a TCP port on the router to this machine, and give --port and --announce; "
    "or leave it: it works"
)
SET_CLOCK = "switch on time synchronisation: timedatectl set-ntp true"


async def check(link: Link, listen: Listen) -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        me = identity.load_or_create(Path(folder))
        try:
            p2p = await start_daemon(me, list(link.peers), listen)
        except SeshuError as error:
            return [failed("swarm", error.what, error.way_out)]
        try:
            return await _inside(link, p2p, SignedRecordValidator(me))
        finally:
            await p2p.shutdown()


async def _inside(link: Link, p2p: P2P, validator: SignedRecordValidator) -> list[Finding]:
    peers = list(link.peers)
    node = await DHTNode.create(
        p2p=p2p,
        initial_peers=peers,
        record_validator=validator,
        client_mode=True,
        ensure_bootstrap_success=False,
    )
    try:
        swarm = Swarm(link.run_id, p2p, node, validator)
        findings = [await _run(swarm, link)]
        findings.append(judge_clock(await _skews(node, peers)))
        findings.append(judge_reach(await reach.ask(p2p, link.run_id, peers)))
        if (found := await _found(swarm, link)) is not None:
            findings.append(judge_rate(await _rate(swarm, found)))
        return findings
    finally:
        await node.shutdown()


async def _run(swarm: Swarm, link: Link) -> Finding:
    try:
        found = await swarm.run_record(link)
    except SeshuError as error:
        return failed("run", error.what, error.way_out)
    return passed(
        "run", f"{link.run_id}, signed by the link's key, at {found.record.revision[:12]}"
    )


async def _found(swarm: Swarm, link: Link) -> Found[RunRecord] | None:
    try:
        return await swarm.current_run(link)
    except SeshuError:
        return None  # the finding `run` says why


async def _skews(node: DHTNode, peers: list[str]) -> list[float]:
    """Seconds by which this machine's clock is ahead of each peer that answers."""
    asking = (_skew(node, reach.peer_of(peer)) for peer in dict.fromkeys(peers))
    return [skew for skew in await asyncio.gather(*asking) if skew is not None]


async def _skew(node: DHTNode, peer: str) -> float | None:
    stub = node.protocol.get_stub(PeerID.from_base58(peer))
    request = dht_pb2.PingRequest(peer=node.protocol.node_info, validate=False)
    asked = time.time()
    try:
        pinging = stub.rpc_ping(request, timeout=PING_SECONDS)
        answer = await frames.within(PING_SECONDS, pinging, f"the clock of peer …{peer[-6:]}")
    except Exception:  # hivemind's handlers pass on whatever the other side raised
        return None
    return (asked + time.time()) / 2 - float(answer.dht_time)


def judge_clock(ahead_seconds: list[float]) -> Finding:
    if not ahead_seconds:
        return warned("clock", "no peer told its time", "try again, or compare with: timedatectl")
    # A peer may be wrong itself: the middle one of three is not.
    middle = sorted(ahead_seconds)[len(ahead_seconds) // 2]
    word = "ahead of" if middle > 0 else "behind"
    text = f"{abs(middle):.2f} s {word} {len(ahead_seconds)} of the link's peers"
    if abs(middle) > ALLOWED_SKEW_SECONDS:
        return failed("clock", f"{text}; at most {ALLOWED_SKEW_SECONDS:g} s", SET_CLOCK)
    if abs(middle) > ALLOWED_SKEW_SECONDS / 2:
        return warned("clock", f"{text}; at most {ALLOWED_SKEW_SECONDS:g} s", SET_CLOCK)
    return passed("clock", text)


def judge_reach(found: Reach) -> Finding:
    milliseconds = found.round_trip_seconds * 1000
    match found.kind:
        case Kind.DIRECT:
            return passed("nat", f"direct: others dial this machine, {milliseconds:.0f} ms away")
        case Kind.RELAYED:
            text = (
                f"relayed: others cannot dial this machine ({found.tried}); a peer here works through "
                f"{len(found.relays)} of the link's, {milliseconds:.0f} ms away: at least "
                f"{2 * milliseconds:.0f} ms to any other peer and back"
            )
            return warned("nat", text, FORWARD)
        case Kind.UNKNOWN:
            text = "unknown: none of the link's peers could try to dial this machine"
            return warned("nat", text, "try again; they may be older or busy")


@dataclass(frozen=True)
class Received:
    """Bytes that came in so many seconds; `obstacle` where none did."""

    num_bytes: int
    seconds: float
    obstacle: str = ""


async def _rate(swarm: Swarm, found: Found[RunRecord]) -> Received:
    """From the largest file of the run's checkpoint, a few megabytes or seconds of it."""
    digest = found.record.revision
    try:
        data = b"".join(
            await _some(swarm, found.owner, Wanted(digest, MANIFEST, 0, MAX_MANIFEST_BYTES))
        )
        files = packages.parse_manifest(data).files
        name = max(files, key=lambda one: files[one].size_bytes)
        began = time.monotonic()
        whole = Wanted(digest, name, 0, files[name].size_bytes)
        pieces = await _some(swarm, found.owner, whole)
    except SeshuError as error:
        return Received(0, 0.0, error.what)
    return Received(sum(map(len, pieces)), time.monotonic() - began)


async def _some(swarm: Swarm, peer: str, wanted: Wanted) -> list[bytes]:
    pieces: list[bytes] = []
    began = time.monotonic()
    async with aclosing(receiving.chunks(swarm, peer, wanted, LONG)) as chunks:
        async for data in chunks:
            pieces.append(data)
            if sum(map(len, pieces)) >= MEASURED_BYTES:
                break
            if time.monotonic() - began > MEASURED_SECONDS:
                break
    return pieces


def judge_rate(received: Received) -> Finding:
    if received.obstacle:
        return warned(
            "bandwidth", f"the coordinator gave nothing: {received.obstacle}", "try again later"
        )
    per_second = received.num_bytes / max(received.seconds, 1e-3)
    text = f"{size(per_second)}/s from the coordinator ({size(received.num_bytes)} fetched)"
    if received.num_bytes >= MEASURED_BYTES // 4 and per_second < 125_000:
        return warned(
            "bandwidth", text, "host few blocks: a line of 1 Mbit/s or more serves better"
        )
    return passed("bandwidth", text)
