"""The routes. Every failure, also of a path that is no route, has OpenAI's shape."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seshu_swarm.client.chat_page.serving import add_page
from seshu_swarm.client.gateway import chats, completions
from seshu_swarm.client.gateway.answering import Gateway
from seshu_swarm.client.gateway.metrics import CLIENT_GONE, CONTENT_TYPE, OTHER, Metrics
from seshu_swarm.client.gateway.refusals import Failure, No, RefusedError, failure_of

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics", "/")


def build(gateway: Gateway) -> FastAPI:
    """The application of one gateway."""
    # No pages of documentation: they would load scripts from elsewhere.
    app = FastAPI(title="seshu-swarm", openapi_url=None)
    app.add_middleware(Counting, metrics=gateway.metrics)
    app.add_exception_handler(Exception, _failed)
    app.add_exception_handler(RefusedError, _failed)
    app.add_exception_handler(HTTPException, _no_route)
    _add_text(app, gateway)
    _add_facts(app, gateway)
    add_page(app, gateway)
    return app


def _add_text(app: FastAPI, gateway: Gateway) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> Response:
        return await gateway.answer(request, chats)

    @app.post("/v1/completions", response_model=None)
    async def complete(request: Request) -> Response:
        return await gateway.answer(request, completions)


def _add_facts(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/v1/models", response_model=None)
    async def models(request: Request) -> dict[str, Any]:
        gateway.identify(request)
        return {"object": "list", "data": gateway.models.listing()}

    @app.get("/v1/models/{name}", response_model=None)
    async def model(request: Request, name: str) -> dict[str, Any]:
        gateway.identify(request)
        gateway.models.check_name(name)
        return {**gateway.models.listing()[0], "id": name}

    @app.get("/health", response_model=None)
    async def health() -> Response:
        """503 while a block has no peer: then nothing can be answered."""
        missing = gateway.models.missing_blocks
        facts = {
            "status": "blocks without a peer" if missing else "ok",
            "model": gateway.models.name,
            "missing_blocks": missing,
            "sessions": gateway.slots.taken,
            "max_sessions": gateway.slots.most,
        }
        return JSONResponse(facts, 503 if missing else 200)

    @app.get("/metrics", response_model=None)
    async def metrics(request: Request) -> Response:
        gateway.identify(request)
        return Response(gateway.metrics.text(), media_type=CONTENT_TYPE)


async def _failed(request: Request, error: Exception) -> Response:
    return _response(failure_of(error))


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = {404: No.PATH_UNKNOWN, 405: No.METHOD_NOT_ALLOWED}
    no = known.get(status, No.MALFORMED_BODY)
    return _response(failure_of(RefusedError(no, f"paths: {', '.join(ROUTES)}")))


def _response(failure: Failure) -> Response:
    return JSONResponse(failure.body, failure.status, failure.headers)


class Counting:
    """Counts requests by route and status, around everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = CLIENT_GONE

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            if scope["type"] == "http":
                route = scope["path"] if scope["path"] in ROUTES else OTHER
                self._metrics.requests.labels(route, str(status)).inc()
