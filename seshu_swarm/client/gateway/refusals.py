"""Every no of the gateway by name, and any failure in the shape of OpenAI's errors.

The name is the `code`; `param` names the field of the request. What a client reads never holds a
traceback or a path of this machine.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from seshu_swarm import errors
from seshu_swarm.errors import RefusalError, SeshuError

logger = logging.getLogger(__name__)


class No(Enum):
    """HTTP status and sentence of each refusal."""

    NOT_HTTP = (400, "the bytes are not an HTTP request")
    MALFORMED_BODY = (400, "the body is not a JSON object")
    UNKNOWN_FIELD = (400, "there is no such field")
    INVALID_VALUE = (400, "the value is not allowed")
    UNSUPPORTED = (400, "this gateway cannot do that")
    TEXT_NOT_UTF8 = (400, "the text has no UTF-8 form")
    PROMPT_TOO_LONG = (400, "the prompt has too many tokens")
    ANSWER_TOO_LONG = (400, "too many tokens are asked for")
    TOO_MANY_CHOICES = (400, "too many choices are asked for")
    KEY_MISSING = (401, "no API key was given")
    KEY_UNKNOWN = (401, "the API key is not known")
    MODEL_UNKNOWN = (404, "there is no such model")
    PATH_UNKNOWN = (404, "there is no such path")
    METHOD_NOT_ALLOWED = (405, "the path does not take that method")
    HEAD_TOO_SLOW = (408, "the headers did not arrive in time")
    BODY_TOO_SLOW = (408, "the body did not arrive in time")
    BODY_TOO_LARGE = (413, "the body is too large")
    CONTENT_TYPE = (415, "the body is not sent as JSON")
    REQUESTS_PER_MINUTE = (429, "the key's requests of this minute are used up")
    TOKENS_PER_DAY = (429, "the key's tokens of this day are used up")
    STOPPING = (503, "the gateway is being stopped")
    SESSIONS_FULL = (503, "all sessions are in use")
    REQUEST_DEADLINE = (504, "the answer took too long")

    @property
    def status(self) -> int:
        return self.value[0]

    @property
    def sentence(self) -> str:
        return self.value[1]


class RefusedError(RefusalError):
    """A request that this gateway refuses."""

    def __init__(
        self,
        no: No,
        detail: str = "",
        *,
        param: str | None = None,
        way_out: str = "",
        retry_after_seconds: int | None = None,
    ) -> None:
        self.no, self.param, self.retry_after_seconds = no, param, retry_after_seconds
        super().__init__(no.name, no.sentence, rule=detail, way_out=way_out)


@dataclass(frozen=True)
class Failure:
    """What a client is told: HTTP status and the fields of OpenAI's error object."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_seconds: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(self.retry_after_seconds)
        return headers


# The first that fits; the message of what is not listed may name this machine's files.
_STATUS_OF = (
    (errors.DeadlineError, 504),
    (errors.PeerLostError, 503),
    (errors.RevisionRetiredError, 503),
    (errors.RefusalError, 503),
    (errors.PeerError, 502),
    (errors.JoinError, 503),
)


def failure_of(error: BaseException) -> Failure:
    """Any exception as a failure; what nobody foresaw goes to the log, and the client hears so."""
    if isinstance(error, RefusedError):
        return Failure(
            error.no.status, error.no.name, str(error), error.param, error.retry_after_seconds
        )
    for kind, status in _STATUS_OF:
        if isinstance(error, kind):
            return Failure(status, _name_of(error), str(error))
    logger.error("a request failed", exc_info=error)
    name = _name_of(error) if isinstance(error, SeshuError) else "INTERNAL"
    return Failure(500, name, f"{name}: the gateway failed; its log says why")


def _name_of(error: BaseException) -> str:
    """PeerLostError → PEER_LOST; a peer's refusal keeps its own name."""
    if isinstance(error, RefusalError):
        return error.name
    words = re.findall(r"[A-Z][a-z]*", type(error).__name__.removesuffix("Error"))
    return "_".join(word.upper() for word in words)
