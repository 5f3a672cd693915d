"""An HTTP connection on which the head of a request must arrive in time.

uvicorn waits for one without end: a client that drips bytes would hold a connection, and with many
of them every file descriptor of this process. Bodies that are read have a deadline of their own
(`bodies`), those that were answered before they came have one here, and
`uvicorn.Config.timeout_keep_alive` ends connections without a next request.
"""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from seshu_swarm.client.gateway.refusals import No, RefusedError, failure_of

HEAD_SECONDS = 10.0


class Connection(H11Protocol):
    """HEAD_SECONDS from connecting, and for later requests from their first bytes, to all headers.

    Whoever is late is told so (HEAD_TOO_SLOW), and the connection ends.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._deadline is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """A body that nobody reads any more must end in time too."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(HEAD_SECONDS, self._rest_is_late, self.cycle)

    def _rest_is_late(self, cycle: object) -> None:
        if self.cycle is cycle and self.conn.their_state is h11.SEND_BODY:
            self.transport.close()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        self._refuse(RefusedError(No.HEAD_TOO_SLOW, f"{HEAD_SECONDS:g} s"))

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP, in the shape of every other refusal."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(RefusedError(No.NOT_HTTP, msg))
        else:
            self.transport.close()

    def _refuse(self, refusal: RefusedError) -> None:
        failure = failure_of(refusal)
        body = json.dumps(failure.body).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        head = h11.Response(status_code=failure.status, headers=headers)
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
