"""One request from its key to its end; what both endpoints have in common.

Order: key, its requests of this minute, body, model, values, a session's room, the day's tokens;
then the choices run, until they end, the deadline passes or the client leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from seshu_swarm.client.config import ServeConfig
from seshu_swarm.client.gateway.bodies import read_body
from seshu_swarm.client.gateway.choices import Ending, OnTheWay, Runner, Use
from seshu_swarm.client.gateway.keys import KeyRing
from seshu_swarm.client.gateway.limits import Allowance, Allowances, Slots
from seshu_swarm.client.gateway.metrics import Metrics
from seshu_swarm.client.gateway.models import Models
from seshu_swarm.client.gateway.outlet import Answer, Outlet
from seshu_swarm.client.gateway.refusals import No, RefusedError
from seshu_swarm.client.gateway.requests import GenerationBody, MostTokens, parse_body
from seshu_swarm.client.gateway.text import Piece, Placed
from seshu_swarm.client.gateway.wanted import Wanted
from seshu_swarm.program.running import Stop

Json = dict[str, Any]


class Shape(Protocol):
    """`completions` and `chats`."""

    @property
    def BODY(self) -> type[GenerationBody]: ...  # noqa: N802

    @property
    def WHOLE(self) -> str: ...  # noqa: N802

    @property
    def PART(self) -> str: ...  # noqa: N802

    @property
    def ID_PREFIX(self) -> str: ...  # noqa: N802

    @property
    def first_events(self) -> Callable[[int], list[Json]]: ...

    @property
    def choice(self) -> Callable[[int, str, Sequence[Placed] | None, str | None], Json]: ...

    @property
    def part(self) -> Callable[[int, str, Sequence[Placed] | None, str | None], Json]: ...


@dataclass(frozen=True)
class Ask:
    """A request that was checked, and how its answer is written."""

    shape: Shape
    body: GenerationBody
    choices: tuple[Wanted, ...]
    model_name: str
    use: Use
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def document(self, kind: str, choices: Sequence[Json], usage: Json | None) -> Json:
        return {
            "id": self.shape.ID_PREFIX + self.id,
            "object": kind,
            "created": self.created,
            "model": self.model_name,
            "system_fingerprint": self.use.revision,
            "choices": list(choices),
            "usage": usage,
        }

    @property
    def usage(self) -> Json:
        """A prompt counts once a choice: each absorbs it in a session of its own."""
        prompt, completion = self.use.prompt_tokens, self.use.completion_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }


class Gateway:
    """Everything that requests share."""

    def __init__(
        self,
        settings: ServeConfig,
        models: Models,
        keys: KeyRing,
        *,
        stop: Stop,
        allowances: Allowances | None = None,
    ) -> None:
        self.settings, self.keys, self.stop = settings, keys, stop
        self._allowances = allowances or Allowances()
        self.models, self.metrics = models, Metrics()
        self.slots = Slots(settings.max_sessions)

    def identify(self, request: Request) -> Allowance:
        """The allowance of the request's key. Raises RefusedError."""
        return self._allowances.of(self.keys.identify(request.headers.get("authorization")))

    async def answer(self, request: Request, shape: Shape) -> Response:
        """The answer to a request for text. Raises RefusedError before anything was computed."""
        began = time.perf_counter()
        allowance = self.identify(request)
        allowance.count_request(time.time())
        settings = self.settings
        body = parse_body(shape.BODY, await read_body(request, settings.max_body_bytes))
        self.models.check_name(body.model)
        most = MostTokens(settings.max_prompt_tokens, settings.max_new_tokens)
        ask = Ask(
            shape,
            body,
            tuple(body.wanted(most)),
            self.models.name,
            Use(began, self.models.current.revision),
        )
        runner = Runner(self.models.current, self.slots, self.metrics, self.settings.step_seconds)

        async def work(outlet: Outlet) -> None:
            with self._room(ask, allowance):
                await self._within_deadline(ask, runner, outlet)

        return Answer(work, self.stop, on_gone=self.metrics.cancelled.inc)

    @contextlib.contextmanager
    def _room(self, ask: Ask, allowance: Allowance) -> Iterator[None]:
        """A slot, and the day's tokens that the request may use; unused ones go back."""
        self.slots.take()
        try:
            num_tokens = sum(wanted.most_tokens for wanted in ask.choices)
            day = allowance.reserve(num_tokens, time.time())
            try:
                yield
            finally:
                used = ask.use.prompt_tokens + ask.use.completion_tokens
                allowance.give_back(num_tokens - used, day)
        finally:
            self.slots.give_back()

    async def _within_deadline(self, ask: Ask, runner: Runner, outlet: Outlet) -> None:
        seconds = self.settings.request_seconds
        write = _streamed if ask.body.stream else _whole
        try:
            async with asyncio.timeout(seconds):
                await write(ask, runner, outlet)
        except TimeoutError:
            raise RefusedError(No.REQUEST_DEADLINE, f"{seconds:g} s") from None


async def _whole(ask: Ask, runner: Runner, outlet: Outlet) -> None:
    """All choices in one document."""
    texts: list[list[str]] = [[] for _ in ask.choices]
    tokens: list[list[Placed]] = [[] for _ in ask.choices]
    endings: dict[int, Ending] = {}

    async def emit(index: int, event: Piece | OnTheWay | Ending) -> None:
        if isinstance(event, Ending):
            endings[index] = event
        elif isinstance(event, Piece):
            texts[index].append(event.text)
            tokens[index] += event.tokens

    await runner.run(ask.choices, ask.use, emit)
    choices = []
    for index, wanted in enumerate(ask.choices):
        scored = None if wanted.num_top is None else tokens[index]
        reason, text = endings[index].finish_reason, "".join(texts[index])
        choice = ask.shape.choice(index, text, scored, reason)
        choices.append(choice | {"seshu": endings[index].journey})
    await outlet.json(ask.document(ask.shape.WHOLE, choices, ask.usage))


async def _streamed(ask: Ask, runner: Runner, outlet: Outlet) -> None:
    """Each piece as an event, as soon as it can be read."""
    begun: set[int] = set()

    async def say(choice: Json) -> None:
        await outlet.event(ask.document(ask.shape.PART, [choice], None))

    async def emit(index: int, event: Piece | OnTheWay | Ending) -> None:
        if index not in begun:
            begun.add(index)
            for choice in ask.shape.first_events(index):
                await say(choice)
        match event:
            case Ending():
                ending = ask.shape.part(index, "", None, event.finish_reason)
                await say(ending | {"seshu": event.journey})
            case OnTheWay():
                await say(ask.shape.part(index, "", None, None) | {"seshu": event.news})
            case Piece():
                tokens = None if ask.choices[index].num_top is None else event.tokens
                await say(ask.shape.part(index, event.text, tokens, None))

    await runner.run(ask.choices, ask.use, emit)
    if ask.body.wants_usage_event:
        await outlet.event(ask.document(ask.shape.PART, [], ask.usage))
    await outlet.end_events()
