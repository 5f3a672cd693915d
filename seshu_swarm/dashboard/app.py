"""The routes of a dashboard, and what every answer carries. Reads only: GET and HEAD, no cookie.

A page may load its own script, style and icon, and nothing from anywhere else; no page can be
framed. What was rendered for one visitor is sent to all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from seshu_swarm.dashboard.board import Board
from seshu_swarm.dashboard.pages import Body, Pages
from seshu_swarm.errors import SeshuError

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
MEDIA_TYPES[".svg"] = "image/svg+xml"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
MAX_ROUND_DIGITS = 9

Answer = Callable[[Request], Awaitable[Response]]


def build(board: Board) -> Starlette:
    """The application of one board."""
    statics = {path.name: _static(path) for path in sorted(STATIC.iterdir())}

    async def static(request: Request) -> Response:
        return _answer(request, statics.get(request.path_params["name"]))

    async def file(request: Request) -> Response:
        return _file(board, await board.pages(), **request.path_params)

    routes = [
        Route("/", _page(board, lambda pages: pages.whole())),
        Route("/versions", _page(board, lambda pages: pages.versions())),
        Route("/parts/{name}", _page(board, lambda pages, name: pages.part(name))),
        Route("/rounds/{number}", _page(board, _round)),
        Route("/checkpoints/{revision}", _page(board, lambda p, revision: p.checkpoint(revision))),
        Route("/checkpoints/{revision}/{name:path}", file),
        Route("/static/{name}", static),
    ]
    return Starlette(
        routes=routes, exception_handlers={HTTPException: _refused, SeshuError: _not_yet}
    )


def _page(board: Board, find: Callable[..., Body | None]) -> Answer:
    async def answer(request: Request) -> Response:
        return _answer(request, find(await board.pages(), **request.path_params))

    return answer


def _round(pages: Pages, number: str) -> Body | None:
    fits = number.isascii() and number.isdecimal() and len(number) <= MAX_ROUND_DIGITS
    return pages.round(int(number)) if fits else None


def _answer(request: Request, body: Body | None) -> Response:
    if body is None:
        raise HTTPException(404)
    headers = HEADERS | {"ETag": body.tag, "Vary": "Accept-Encoding"}
    if body.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(body.compressed, media_type=body.media_type, headers=headers)
    return Response(body.data, media_type=body.media_type, headers=headers)


def _static(path: Path) -> Body:
    return Body.of(path.read_text(encoding="utf-8"), MEDIA_TYPES[path.suffix])


def _file(board: Board, pages: Pages, *, revision: str, name: str) -> Response:
    """Only what the checkpoint's manifest names, as bytes to keep: no browser shows it as a page."""
    one = pages.find(revision)
    listed = one is not None and name in {file.name for file in one.files}
    path = board.source.file(revision, name) if listed else None
    if path is None or not path.is_file():
        raise HTTPException(404)
    return FileResponse(
        path, media_type="application/octet-stream", filename=path.name, headers=HEADERS
    )


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = {404: "There is no such page.", 405: "Pages can be read here, and nothing else."}
    return PlainTextResponse(said.get(status, "No."), status, headers=HEADERS)


async def _not_yet(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 503, headers=HEADERS | {"Retry-After": "2"})
