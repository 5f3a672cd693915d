"""Tokens into text that can be sent: whole characters only, and nothing of a stop sequence. Pure.

A token is a byte, so a character is complete only with its last one; bytes of an unfinished
character wait, and become U+FFFD if the text ends on them. The end of a text that may yet become
a stop sequence waits too.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from seshu_swarm.client.gateway.generation import Scored
from seshu_swarm.data.tokeniser import NUM_BYTES, NUM_SPECIAL, ByteTokeniser

NAMES = {ByteTokeniser.pad_id: "<pad>", ByteTokeniser.eos_id: "</s>", ByteTokeniser.unk_id: "<unk>"}


def token_text(token: int) -> str:
    """A token's name: the character of an ASCII byte, `bytes:\\xe0` of another, as OpenAI's.

    No two tokens have one name, since names are keys of `top_logprobs`.
    """
    byte = token - NUM_SPECIAL
    if 0 <= byte < 128:
        return chr(byte)
    if 0 <= byte < NUM_BYTES:
        return f"bytes:\\x{byte:02x}"
    return NAMES.get(token) or f"<extra_id_{byte - NUM_BYTES}>"


def token_bytes(token: int) -> list[int] | None:
    """The token's byte, in a list as OpenAI's clients want it."""
    byte = token - NUM_SPECIAL
    return [byte] if 0 <= byte < NUM_BYTES else None


@dataclass(frozen=True)
class Placed:
    """A token and where its character begins, in characters from the beginning of the text."""

    scored: Scored
    offset: int


@dataclass(frozen=True)
class Piece:
    """Text that can be sent, and the tokens it came from."""

    text: str
    tokens: tuple[Placed, ...]


class Writer:
    """Text of one choice. `echo` the prompt first, `push` each new token, `finish` at the end."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""  # decoded, and not sent: may become a stop sequence
        self._waiting: list[Placed] = []
        self._sent_characters = 0
        self.is_stopped = False

    def echo(self, tokens: Sequence[Scored]) -> Piece:
        """Tokens of the prompt: no stop sequence is looked for in them."""
        for token in tokens:
            self._held += self._decode(token)
        text, self._held = self._held, ""
        return self._send(text)

    def push(self, token: Scored) -> Piece:
        """What can be sent now that `token` came; perhaps nothing. Sets `is_stopped`."""
        self._held += self._decode(token)
        return self._send(self._take())

    def finish(self) -> Piece:
        """Everything that waited, unless a stop sequence came."""
        if self.is_stopped:
            return self._send("")
        self._held += self._decoder.decode(b"", final=True)
        text = self._take()
        if not self.is_stopped:
            text, self._held = text + self._held, ""
        return self._send(text)

    def _decode(self, token: Scored) -> str:
        self._waiting.append(Placed(token, self._sent_characters + len(self._held)))
        return self._decoder.decode(bytes(token_bytes(token.id) or ()))

    def _take(self) -> str:
        """Of what is held, the part that no stop sequence can claim any more."""
        found = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            return self._held[: min(found)]
        kept = _possible_stop(self._held, self._stop)
        text = self._held[: len(self._held) - kept]
        self._held = self._held[len(text) :]
        return text

    def _send(self, text: str) -> Piece:
        self._sent_characters += len(text)
        going = self._waiting
        if self.is_stopped or self._held or self._decoder.getstate()[0]:
            going = [p for p in going if p.offset < self._sent_characters]
        self._waiting = self._waiting[len(going) :]
        return Piece(text, tuple(going))


def _possible_stop(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of `text` with which a stop sequence may have begun."""
    longest = 0
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), longest, -1):
            if stop.startswith(text[-length:]):
                longest = length
                break
    return longest
