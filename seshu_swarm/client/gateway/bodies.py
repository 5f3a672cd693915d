"""The bytes of a request's body, within a size and a time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from seshu_swarm.client.gateway.refusals import No, RefusedError

BODY_SECONDS = 30.0
DRAINED = 4  # times the limit: what is still read, so that the client hears the refusal


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises RefusedError.

    Only JSON is taken: a web page in the owner's browser cannot send that to another origin
    without asking first, and nobody answers its question here.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusedError(No.CONTENT_TYPE, way_out="Content-Type: application/json")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            data = await _read(request, max_bytes)
    except TimeoutError:
        raise RefusedError(No.BODY_TOO_SLOW, f"{BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise RefusedError(No.BODY_TOO_SLOW, "the client left") from None
    if data is None:
        raise RefusedError(No.BODY_TOO_LARGE, f"at most {max_bytes} bytes")
    return data


async def _read(request: Request, max_bytes: int) -> bytes | None:
    """None when it is too large; a little more is read then, and not kept."""
    data, num_bytes = bytearray(), 0
    async for piece in request.stream():
        num_bytes += len(piece)
        if num_bytes <= max_bytes:
            data += piece
        elif num_bytes > DRAINED * max_bytes:
            break
    return bytes(data) if num_bytes <= max_bytes else None
