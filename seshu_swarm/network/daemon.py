"""The p2p daemon of this peer: where it listens, how it starts, and why it may not.

hivemind's wheel carries the program; the DHT and all streams go through it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from hivemind.p2p import P2P
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError

from seshu_swarm.errors import (
    ClockError,
    JoinError,
    PortTakenError,
    ResourceError,
    UnreachableError,
)
from seshu_swarm.network.identity import Identity
from seshu_swarm.network.signing import ALLOWED_SKEW_SECONDS

DAEMON_START_SECONDS = 15.0
# What the daemon calls an error when its own socket is closed as it ends.
CLOSED_AT_ITS_END = "use of closed network connection"


@dataclass(frozen=True)
class Listen:
    """Where this peer listens: host and port (0: the system's choice).

    `announce` is the multiaddr that others dial where that is another one, as behind a router that
    forwards a port.
    """

    host: str = "0.0.0.0"
    port: int = 0
    announce: str | None = None

    @property
    def multiaddr(self) -> str:
        return f"/ip4/{self.host}/tcp/{self.port}"


def is_worth_saying(record: logging.LogRecord) -> bool:
    """Whether a line of the daemon is for people: its own end is none."""
    return CLOSED_AT_ITS_END not in record.getMessage()


async def start_daemon(
    identity: Identity, peers: list[str], listen: Listen, *, relays: Sequence[str] = ()
) -> P2P:
    """With `relays`, others are told to dial this peer through them. Raises UnreachableError where no
    peer answered, ResourceError where it did not start."""
    logging.getLogger(P2P.__module__).addFilter(is_worth_saying)
    announced = [f"{relay}/p2p-circuit" for relay in relays]
    if listen.announce:
        announced.append(listen.announce)
    try:
        return await P2P.create(
            initial_peers=peers or None,
            host_maddrs=[listen.multiaddr],
            announce_maddrs=announced or None,
            # Said now, or the daemon would find out in a minute and put its own limited relay in the
            # place of `relaying`.
            force_reachability="private" if relays else "public",
            identity_path=str(identity.path),
            check_if_identity_free=False,
            startup_timeout=DAEMON_START_SECONDS,
            nat_port_map=listen.host != "127.0.0.1",
            auto_nat=listen.host != "127.0.0.1",
        )
    except P2PDaemonError as error:
        if peers and "bootstrap" in str(error):
            raise unreachable(peers, "no connection") from None
        raise ResourceError(
            f"the p2p daemon did not start: {error}",
            rule="hivemind's wheel carries it for Linux x86-64",
            way_out="use Linux x86-64, or WSL2 on Windows",
        ) from None


def check_port(listen: Listen) -> None:
    """Refuse a taken port by name: the daemon itself would share it silently (SO_REUSEPORT)."""
    if listen.port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except OSError as error:
            raise PortTakenError(
                f"cannot listen on {listen.host}:{listen.port}: {error.strerror}",
                rule="one program per port",
                way_out="choose another --port, or 0 for a free one",
            ) from None


def unreachable(peers: list[str], reason: str) -> UnreachableError:
    """No address of the link answered."""
    return UnreachableError(
        f"no peer of the join link answered ({reason}): {', '.join(peers)}",
        rule="at least one address must be reachable over TCP",
        way_out="check that the coordinator runs, the network, and that the link is the newest",
    )


def refused_by_peers(peers: list[str], error: Exception) -> JoinError:
    """A peer that was asked cannot reach this one back, or finds that their clocks differ."""
    if "access" in str(error):
        return unreachable(peers, f"one cannot reach this machine back: {error}")
    return ClockError(
        f"this machine's clock differs from the swarm's: {error}",
        rule=f"at most {ALLOWED_SKEW_SECONDS:g} s: records expire by the clock",
        way_out="switch on time synchronisation (timedatectl set-ntp true) and start again",
    )
