"""A home router as a program: address translation between two network namespaces, for tests.

`python -m tests.nat_router INSIDE OUTSIDE NAME PUBLIC_ADDRESS` makes an interface NAME in each of the two namespaces,
prints `ready`, and passes TCP packets from the inside on under the public address and a port of its
own. What comes from outside passes only to a port that the inside has opened to that very sender
(address- and port-dependent filtering, RFC 4787 section 5): nobody outside can dial in. Needs /dev/net/tun
and a user who may administer networks; knows no netfilter, which many kernels come without.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys
from dataclasses import dataclass, field

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
TCP = 6
MAX_PACKET_BYTES = 65_536
FIRST_PORT = 20_000

Endpoint = tuple[bytes, int]


@dataclass(frozen=True)
class Packet:
    """A TCP packet of IPv4: the raw bytes and where its TCP header begins."""

    data: bytes
    header_bytes: int

    @classmethod
    def read(cls, data: bytes) -> Packet | None:
        """None for what is no TCP over IPv4."""
        if len(data) < 40 or data[0] >> 4 != 4 or data[9] != TCP:
            return None
        return cls(data, (data[0] & 15) * 4)

    @property
    def source(self) -> Endpoint:
        return self.data[12:16], int.from_bytes(self.data[self.header_bytes :][:2])

    @property
    def target(self) -> Endpoint:
        return self.data[16:20], int.from_bytes(self.data[self.header_bytes + 2 :][:2])

    def with_ends(self, source: Endpoint, target: Endpoint) -> bytes:
        """The packet with other ends, both checksums made anew (RFC 791, RFC 9293)."""
        ip = bytearray(self.data[: self.header_bytes])
        tcp = bytearray(self.data[self.header_bytes :])
        ip[12:16], ip[16:20] = source[0], target[0]
        struct.pack_into("!HH", tcp, 0, source[1], target[1])
        ip[10:12], tcp[16:18] = b"\0\0", b"\0\0"
        struct.pack_into("!H", ip, 10, checksum(bytes(ip)))
        pseudo = source[0] + target[0] + struct.pack("!BBH", 0, TCP, len(tcp))
        struct.pack_into("!H", tcp, 16, checksum(pseudo + bytes(tcp)))
        return bytes(ip + tcp)


def checksum(data: bytes) -> int:
    """Ones' complement of the ones' complement sum of 16-bit words (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass
class Router:
    """The table of one router: inner ends, the ports that stand for them, and whom they spoke to."""

    public_address: bytes
    ports: dict[Endpoint, int] = field(default_factory=dict)
    inner: dict[int, Endpoint] = field(default_factory=dict)
    spoken_to: set[tuple[int, Endpoint]] = field(default_factory=set)

    def outwards(self, packet: Packet) -> bytes:
        port = self.ports.setdefault(packet.source, FIRST_PORT + len(self.ports))
        self.inner[port] = packet.source
        self.spoken_to.add((port, packet.target))
        return packet.with_ends((self.public_address, port), packet.target)

    def inwards(self, packet: Packet) -> bytes | None:
        """None where nobody inside spoke to that sender from that port."""
        address, port = packet.target
        if address != self.public_address or (port, packet.source) not in self.spoken_to:
            return None
        return packet.with_ends(packet.source, self.inner[port])


def enter(namespace: str) -> None:
    """This process's new sockets and interfaces lie in a named namespace from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as place:
        if libc.setns(place.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")


def interface(namespace: str, name: str) -> int:
    """A new interface of a named namespace; packets are read and written at the result."""
    enter(namespace)
    tun: int = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def main(inside_name: str, outside_name: str, name: str, public_address: str) -> None:
    inside, outside = interface(inside_name, name), interface(outside_name, name)
    router = Router(bytes(map(int, public_address.split("."))))
    print("ready", flush=True)
    while True:
        for ready in select.select([inside, outside], [], [])[0]:
            packet = Packet.read(os.read(ready, MAX_PACKET_BYTES))
            if packet is None:
                continue
            if ready == inside:
                os.write(outside, router.outwards(packet))
            elif translated := router.inwards(packet):
                os.write(inside, translated)


if __name__ == "__main__":
    main(*sys.argv[1:])
