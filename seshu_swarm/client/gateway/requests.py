"""Bodies of requests, checked once: what comes out of here is sound, the rest is refused by name.

Fields of OpenAI's that change nothing here are ignored; those that would change the answer are
taken only with the value that asks for nothing. Pure.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seshu_swarm.client.gateway.refusals import No, RefusedError
from seshu_swarm.client.gateway.wanted import Wanted
from seshu_swarm.client.remote.turns import Turn, conversation_ids
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import DataError

MAX_CHOICES = 128  # prompts × n of one request
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_TOP = 20
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's
DEFAULT_CHAT_TOKENS = 512

IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
    | {"parallel_tool_calls", "reasoning_effort", "verbosity", "prompt_cache_retention"}
)
# Field → the values that ask for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "best_of": (None, 1),
    "suffix": (None, ""),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
}
RULES = {
    "prompt": "a string, a list of strings, a list of token ids or a list of such lists",
    "stop": f"a string, or at most {MAX_STOPS} strings of 1 to {MAX_STOP_CHARACTERS} characters",
    "messages": "a list of {role, content}; content is a string or a list of text parts",
}

Ids = list[int]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Body = TypeVar("Body", bound="GenerationBody")


@dataclass(frozen=True)
class MostTokens:
    """What one choice may have."""

    prompt: int
    new: int


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool | None = None  # of OpenAI's; padding against listeners on the wire


class GenerationBody(_Strict):
    """What both endpoints take."""

    model: str
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False  # goes on after the model's own end; as vLLM names it

    @property
    def wants_usage_event(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def wanted(self, most: MostTokens) -> list[Wanted]:
        """One entry a choice, in the order of their indices. Raises RefusedError."""
        raise NotImplementedError

    def _choices(
        self, prompts: Sequence[Ids], most: MostTokens, default: int, **more: Any
    ) -> list[Wanted]:
        """`n` choices of each prompt; each has a seed of its own."""
        num, seed = self.n or 1, secrets.randbits(32) if self.seed is None else self.seed
        if len(prompts) * num > MAX_CHOICES:
            detail = f"{len(prompts)} prompts × n {num}, at most {MAX_CHOICES}"
            raise RefusedError(No.TOO_MANY_CHOICES, detail, param="n")
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        new = self._max_new_tokens(most.new, default)
        return [
            Wanted(
                prompt_ids=tuple(_checked(ids, most.prompt)),
                max_new_tokens=new,
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                seed=(seed + i) % 2**63,
                stop=stop,
                ignore_end=self.ignore_eos,
                **more,
            )
            for ids in prompts
            for i in range(num)
        ]

    def _max_new_tokens(self, most: int, default: int) -> int:
        asked = self.max_tokens
        if asked is not None and asked > most:
            raise RefusedError(No.ANSWER_TOO_LONG, f"{asked}, at most {most}", param="max_tokens")
        return min(default, most) if asked is None else asked


def _checked(ids: Ids, most: int) -> Ids:
    """A prompt's ids; an empty prompt begins where a text ended, as in training."""
    if len(ids) > most:
        raise RefusedError(No.PROMPT_TOO_LONG, f"{len(ids)} tokens, at most {most}", param="prompt")
    return ids or [ByteTokeniser.eos_id]


class CompletionBody(GenerationBody):
    prompt: str | list[str] | Ids | list[Ids]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP)] | None = None

    def wanted(self, most: MostTokens) -> list[Wanted]:
        prompts = [_ids_of(prompt) for prompt in self._prompts()]
        echo = bool(self.echo)
        return self._choices(
            prompts, most, DEFAULT_COMPLETION_TOKENS, echo=echo, num_top=self.logprobs
        )

    def _prompts(self) -> list[Any]:
        if isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int)):
            return [self.prompt]
        return list(self.prompt)


def _ids_of(prompt: str | Ids) -> Ids:
    if isinstance(prompt, str):
        return _encoded(lambda: ByteTokeniser().encode(prompt), "prompt")
    if wrong := [i for i in prompt if not 0 <= i < ByteTokeniser.vocab_size]:
        detail = f"token id {wrong[0]}, at least 0 and below {ByteTokeniser.vocab_size}"
        raise RefusedError(No.INVALID_VALUE, detail, param="prompt")
    return prompt


def _encoded(encode: Any, param: str) -> Ids:
    try:
        ids: Ids = encode()
    except DataError as error:
        raise RefusedError(No.TEXT_NOT_UTF8, error.what, param=param) from None
    return ids


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message may carry whatever an earlier answer carried, as long as it is empty."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)

    def check_extra(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if value not in (None, [], {}):
                raise RefusedError(No.UNSUPPORTED, f"{name} in a message", param="messages")
        return self


class ChatBody(GenerationBody):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP)] | None = None

    def wanted(self, most: MostTokens) -> list[Wanted]:
        system, turns = _turns_of([message.check_extra() for message in self.messages])
        tokeniser = ByteTokeniser()
        ids = _encoded(lambda: conversation_ids(tokeniser, turns, system), "messages")
        num_top = (self.top_logprobs or 0) if self.logprobs else None
        return self._choices([ids], most, DEFAULT_CHAT_TOKENS, num_top=num_top)

    def _max_new_tokens(self, most: int, default: int) -> int:
        if self.max_completion_tokens is None:
            return super()._max_new_tokens(most, default)
        asked = self.max_completion_tokens
        if asked > most:
            detail = f"{asked}, at most {most}"
            raise RefusedError(No.ANSWER_TOO_LONG, detail, param="max_completion_tokens")
        return asked


def _turns_of(messages: Sequence[ChatMessage]) -> tuple[str, list[Turn]]:
    """What the system says, and the turns; messages of one role in a row are one."""
    system = "\n".join(m.text for m in messages if m.role in ("system", "developer"))
    turns: list[Turn] = []
    for message in (m for m in messages if m.role in ("user", "assistant")):
        last = turns[-1] if turns else None
        if message.role == "assistant":
            question, before = (last.question, last.answer) if last else ("", None)
            answer = message.text if before is None else f"{before}\n{message.text}"
            turns[-1:] = [Turn(question, answer)]
        elif last and last.answer is None:
            turns[-1] = Turn(f"{last.question}\n{message.text}")
        else:
            turns.append(Turn(message.text))
    if not turns or turns[-1].answer is not None:
        raise RefusedError(No.INVALID_VALUE, "the last message is the user's", param="messages")
    return system, turns


def parse_body(kind: type[Body], data: bytes) -> Body:
    """A body of the expected kind. Raises RefusedError that names the field."""
    fields = _without_neutral(_json_object(data))
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    param = str(first["loc"][0]) if first["loc"] else None
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        way_out = f"fields: {', '.join(kind.model_fields)}"
        raise RefusedError(
            No.UNKNOWN_FIELD, (param or "")[:80], param=(param or "")[:80], way_out=way_out
        )
    where = ".".join(str(part)[:40] for part in first["loc"][:4])
    detail = f"{param}: {RULES[param]}" if param in RULES else f"{where}: {first['msg']}"
    raise RefusedError(No.INVALID_VALUE, detail, param=param)


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        detail = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RefusedError(No.MALFORMED_BODY, detail) from None
    if not isinstance(found, dict):
        raise RefusedError(No.MALFORMED_BODY, f"a {type(found).__name__}")
    return found


def _without_neutral(fields: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in fields.items():
        if name in NEUTRAL:
            if value not in NEUTRAL[name]:
                raise RefusedError(No.UNSUPPORTED, f"{name} with a value", param=name)
        elif name not in IGNORED:
            kept[name] = value
    return kept
