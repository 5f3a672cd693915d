"""How much strangers may leave on this disk: for each peer, and for all of them together.

A charge is made before the bytes come, given back for those that did not arrive, and forgotten
after a day. The bound on all peers holds against a flood of identities, which cost nothing. Does
not know what the bytes are; the time is passed in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from seshu_swarm.streams.channel import refusal
from seshu_swarm.streams.protocol import Refusal

DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Charge:
    """`num_bytes` are still counted for `peer_id`."""

    peer_id: str
    num_bytes: int
    made_at: float


class Budget:
    """Charges of the last day. `made_at` and `now` are seconds of one monotonic clock."""

    def __init__(
        self, *, peer_bytes: int, total_bytes: int, remember_seconds: float = DAY_SECONDS
    ) -> None:
        self._peer_bytes, self._total_bytes = peer_bytes, total_bytes
        self._remember_seconds = remember_seconds
        # In the order in which they were made, so that the oldest is found first.
        self._charges: dict[int, Charge] = {}
        self._of_peer: Counter[str] = Counter()
        self._next = 0

    def charge(self, peer_id: str, num_bytes: int, *, now: float) -> int:
        """Count the bytes; what to give back by is returned. Raises RefusalError: TOO_LARGE."""
        self._forget(now)
        of_peer, total = self._of_peer[peer_id] + num_bytes, self._of_peer.total() + num_bytes
        if of_peer > self._peer_bytes:
            detail = f"{of_peer} bytes of yours in a day, at most {self._peer_bytes}"
            raise refusal(Refusal.TOO_LARGE, detail)
        if total > self._total_bytes:
            detail = f"{total} bytes of all peers in a day, at most {self._total_bytes}"
            raise refusal(Refusal.TOO_LARGE, detail)
        self._next += 1
        self._count(self._next, Charge(peer_id, num_bytes, now))
        return self._next

    def refund(self, number: int, num_bytes: int) -> None:
        """Bytes of a charge that did not arrive; nothing for a charge that is forgotten."""
        if charge := self._charges.get(number):
            self._count(number, replace(charge, num_bytes=charge.num_bytes - num_bytes))

    def _forget(self, now: float) -> None:
        for number, charge in list(self._charges.items()):
            if now - charge.made_at < self._remember_seconds:
                return
            self._count(number, replace(charge, num_bytes=0))

    def _count(self, number: int, charge: Charge) -> None:
        before = self._charges.get(number)
        self._of_peer[charge.peer_id] += charge.num_bytes - (before.num_bytes if before else 0)
        if charge.num_bytes:
            self._charges[number] = charge
        else:
            self._charges.pop(number, None)
        if not self._of_peer[charge.peer_id]:
            # Identities cost nothing: those without a charge must not pile up.
            del self._of_peer[charge.peer_id]
