"""Who carried a choice, and what happened on the way: the field `seshu` of OpenAI's shapes.

Clients of OpenAI's ignore fields that they do not know. Peer ids and reasons come from the swarm:
whoever shows them shows text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seshu_swarm.client.chain.recovery import Recovery
from seshu_swarm.client.chain.routing import Hop
from seshu_swarm.client.remote.token_session import Roll, TokenSession

Json = dict[str, Any]
MOST_EVENTS = 100  # of a kind; the newest ones
LONGEST_REASON = 300  # characters


class Journey:
    """Of one session. `news` is asked after each step, `whole` at the end."""

    def __init__(self, session: TokenSession) -> None:
        self._session = session
        self._chain: tuple[Hop, ...] = ()
        self._num_replaced = self._num_rolls = 0

    def news(self) -> Json | None:
        """What has changed since this was asked: the chain, and events. None: nothing."""
        session, news = self._session, Json()
        if session.chain != self._chain:
            self._chain = session.chain
            news["chain"] = _hops(self._chain)
        replaced, rolls = session.replaced, session.rolls
        if len(replaced) > self._num_replaced or len(rolls) > self._num_rolls:
            new = replaced[self._num_replaced :], rolls[self._num_rolls :]
            news["events"] = _events(*new)
            self._num_replaced, self._num_rolls = len(replaced), len(rolls)
        return news or None

    def whole(self) -> Json:
        """The revision and the chain at the end, and all events."""
        session = self._session
        events = _events(session.replaced, session.rolls)
        return {"revision": session.revision, "chain": _hops(session.chain), "events": events}


def _events(replaced: Sequence[Recovery], rolls: Sequence[Roll]) -> list[Json]:
    """Losses in their order, then changes of revision."""
    return [*map(_replaced, replaced[-MOST_EVENTS:]), *map(_rolled, rolls[-MOST_EVENTS:])]


def _hops(hops: Sequence[Hop]) -> list[Json]:
    return [{"blocks": str(hop.span), "peer": hop.peer_id} for hop in hops]


def _replaced(one: Recovery) -> Json:
    return {
        "kind": "replaced",
        "token": one.position,
        "blocks": str(one.span or ""),
        "lost": one.lost,
        "said_goodbye": one.said_goodbye,
        "reason": one.reason[:LONGEST_REASON],
        "by": _hops(one.by),
        "milliseconds": None if one.seconds is None else round(one.seconds * 1e3, 1),
    }


def _rolled(roll: Roll) -> Json:
    return {
        "kind": "rolled",
        "token": roll.num_tokens,
        "ended": roll.ended,
        "revision": roll.revision,
    }
