"""The way back to an HTTP client: one JSON document or server-sent events, ended when it leaves.

An answer begins with its first byte. A failure before that is a status and OpenAI's error object;
later it is an event, and the stream ends without `[DONE]`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from seshu_swarm.client.gateway.refusals import Failure, No, RefusedError, failure_of
from seshu_swarm.program.running import Stop

DONE = "[DONE]"
EVENT_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would hold tokens back otherwise
}


class Outlet:
    """Writes to one client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._has_begun = False

    async def json(
        self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """The whole answer."""
        await self._begin(status, {"Content-Type": "application/json", **(headers or {})})
        await self._write(json.dumps(body, ensure_ascii=False).encode(), more=False)

    async def event(self, data: Any) -> None:
        """One event; the first one begins the stream."""
        if not self._has_begun:
            await self._begin(200, EVENT_HEADERS)
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        await self._write(f"data: {text}\n\n".encode(), more=True)

    async def end_events(self) -> None:
        await self.event(DONE)
        await self._write(b"", more=False)

    async def fail(self, failure: Failure) -> None:
        if self._has_begun:
            await self.event(failure.body)
            await self._write(b"", more=False)
        else:
            await self.json(failure.body, failure.status, failure.headers)

    async def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self._has_begun = True
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _write(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


class Answer(Response):
    """A response that `work` writes.

    When the client leaves or the gateway stops, `work` is cancelled where it waits.
    """

    def __init__(
        self, work: Callable[[Outlet], Awaitable[None]], stop: Stop, on_gone: Callable[[], None]
    ) -> None:
        super().__init__()
        self._work, self._stop, self._on_gone = work, stop, on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outlet = Outlet(send)
        work = asyncio.ensure_future(self._guarded(outlet))
        gone = asyncio.ensure_future(_left(receive))
        stopped = asyncio.ensure_future(self._stop.wait())
        tasks = {work, gone, stopped}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            is_cut = not work.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if is_cut and gone.done() and not gone.cancelled():
            self._on_gone()
        elif is_cut:
            await outlet.fail(failure_of(RefusedError(No.STOPPING)))

    async def _guarded(self, outlet: Outlet) -> None:
        try:
            await self._work(outlet)
        except Exception as error:  # whatever it is, the client gets a named answer
            await outlet.fail(failure_of(error))


async def _left(receive: Receive) -> None:
    """Returns when the client has closed the connection; the request's body was read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
