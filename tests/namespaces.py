"""Two homes behind routers of their own, and a public machine between them: network namespaces.

Each home's machine has the address 192.168.1.2 and reaches the public one through `nat_router`; nobody can
dial into a home, and the public machine passes nothing on from one to the other. Needs root; the
namespaces and the routers end with the `with` block.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Addresses that the p2p daemon takes for public ones; nothing leaves the namespaces.
PUBLIC_ADDRESS = "11.0.0.1"
HOME_ADDRESS = "192.168.1.2"


def obstacle() -> str | None:
    """Why namespaces and routers cannot be made here."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces: run the tests as root"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun, to play the routers: modprobe tun"
    try:
        ip("netns", "list")
        with subprocess.Popen(["unshare", "--net", "true"]) as child:
            return "this kernel makes no network namespaces" if child.wait(5) else None
    except (OSError, subprocess.SubprocessError) as error:
        return f"needs iproute2 and unshare: {error}"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=5, capture_output=True)


class Village:
    """`public`, `first` and `second` are names of namespaces."""

    def __init__(self) -> None:
        self.public, self.first, self.second = (
            f"seshu-{os.getpid()}-{name}" for name in ("public", "first", "second")
        )
        self._routers: list[subprocess.Popen[bytes]] = []

    @property
    def names(self) -> tuple[str, str, str]:
        return self.public, self.first, self.second

    def build(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self.public, "addr", "add", f"{PUBLIC_ADDRESS}/32", "dev", "lo")
        pass_on = Path("/proc/sys/net/ipv4/ip_forward")
        self.run(self.public, f"open('{pass_on}', 'w').write('0')")
        for number, home in enumerate((self.first, self.second), start=1):
            self._connect(home, f"nat{number}", f"11.0.{number}.1")

    def _connect(self, home: str, interface: str, address: str) -> None:
        """A router between the home and the public machine."""
        router = subprocess.Popen(
            [sys.executable, "-m", "tests.nat_router", home, self.public, interface, address],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._routers.append(router)
        assert router.stdout is not None
        assert router.stdout.readline() == b"ready\n"
        ip("-n", home, "addr", "add", f"{HOME_ADDRESS}/24", "dev", interface)
        ip("-n", home, "link", "set", interface, "up")
        ip("-n", home, "route", "add", "default", "dev", interface)
        ip("-n", self.public, "link", "set", interface, "up")
        ip("-n", self.public, "route", "add", f"{address}/32", "dev", interface)

    def run(self, namespace: str, program: str) -> str:
        """Standard output of a Python program inside a namespace."""
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, sys.executable, "-c", program],
            check=True,
            timeout=20,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def close(self) -> None:
        for router in self._routers:
            router.kill()
            router.communicate()
        for name in self.names:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


@contextlib.contextmanager
def village() -> Iterator[Village]:
    built = Village()
    try:
        built.build()
        yield built
    finally:
        built.close()
