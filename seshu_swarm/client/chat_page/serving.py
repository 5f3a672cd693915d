"""The page's files over HTTP: an allow-list of our own, under a policy that lets nothing else in."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePath

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from seshu_swarm.client.chat_page.about import about
from seshu_swarm.client.gateway.answering import Gateway
from seshu_swarm.client.gateway.refusals import No, RefusedError

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}
FIRST = "index.html"


def add_page(app: FastAPI, gateway: Gateway) -> None:
    """`/`, the files below `/chat/`, and `/chat/about`."""
    files = _files()

    @app.get("/", response_model=None)
    async def page() -> Response:
        return files[FIRST]

    @app.get("/chat/about", response_model=None)
    async def facts() -> Response:
        return JSONResponse(about(gateway), headers=HEADERS)

    @app.get("/chat/{name}", response_model=None)
    async def file(name: str) -> Response:
        if name not in files:
            raise RefusedError(No.PATH_UNKNOWN, "the page is at /")
        return files[name]


def _files() -> dict[str, Response]:
    """Read once: they are small, and do not change while a gateway runs."""
    folder = resources.files("seshu_swarm.client.chat_page") / "static"
    return {
        one.name: Response(one.read_bytes(), headers=HEADERS, media_type=kind)
        for one in folder.iterdir()
        if (kind := KINDS.get(PurePath(one.name).suffix))
    }
