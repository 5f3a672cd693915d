"""Sessions that go on and on while something is done to their swarm, and what each of them felt.

Each place has a prompt of its own. When its session has said enough, the next one begins, of whatever
revision is the newest then; the first ones are of different lengths, so that at any time some begin and
some end. Every token is compared with those of the whole model in this process. Knows nothing of what is
done to the swarm.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from seshu_swarm.bench.swarm.model import RandomModel, prompt
from seshu_swarm.bench.swarm.summary import Times
from seshu_swarm.bench.swarm.talk import Talk
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.errors import DeadlineError, PeerError
from seshu_swarm.program.reports import Result

logger = logging.getLogger(__name__)

NUM_SESSIONS = 20
PROMPT_TOKENS, SESSION_TOKENS = 32, 1_024
POLL_SECONDS = 0.1
AFTER_FAILURE_SECONDS = 1.0


@dataclass(frozen=True)
class Life:
    """One session. `waits`: seconds of each token after the first; `num_wrong`: tokens that are not
    the whole model's; `num_failovers`: parts that were replaced, handed over or lost."""

    revision: str
    waits: tuple[float, ...]
    num_wrong: int
    num_failovers: int
    has_failed: bool


class Crowd:
    """`learn` the models there will be, then `living` for as long as the block lasts; `lives` are the
    sessions that have ended."""

    def __init__(self, user: User, seed: int, num_sessions: int = NUM_SESSIONS) -> None:
        self.lives: list[Life] = []
        self._user = user
        self._prompts = [prompt(PROMPT_TOKENS, seed + number) for number in range(num_sessions)]
        self._expected: dict[str, list[list[int]]] = {}
        self._speaking: Counter[str] = Counter()
        self._talks = set[Talk]()
        self._is_over = False

    async def learn(self, model: RandomModel) -> None:
        """What this model says after each prompt."""
        telling = asyncio.to_thread(model.continuations, self._prompts, 1 + SESSION_TOKENS)
        self._expected[model.revision] = await telling

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """Sessions that still speak at the end of the block are ended then."""
        self._is_over = False
        places = [asyncio.create_task(self._live(n)) for n in range(len(self._prompts))]
        try:
            yield
            self._is_over = True
            await asyncio.gather(*places)
        finally:
            for place in places:
                place.cancel()
            await asyncio.gather(*places, return_exceptions=True)

    def num_speaking(self, revision: str) -> int:
        """Sessions of this revision that have their first token and go on."""
        return self._speaking[revision]

    def goes_through(self, peer_id: str) -> bool:
        """Whether a session that has its first token needs this peer for the next one."""
        return any(peer_id in talk.peers for talk in self._talks)

    async def until_all_speak(self, *, seconds: float) -> None:
        """Raises DeadlineError."""
        await self._until(len(self._prompts), seconds, "all sessions to speak")

    async def until_silent(self, revision: str, *, seconds: float) -> None:
        """No session of this revision is left. Raises DeadlineError."""
        await self._until(0, seconds, f"the sessions of {revision[:12]} to end", revision)

    async def _until(self, number: int, seconds: float, what: str, revision: str = "") -> None:
        try:
            async with asyncio.timeout(seconds):
                while (self._speaking[revision] if revision else self._speaking.total()) != number:
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise DeadlineError(f"waited {seconds:g} s for {what}") from None

    async def _live(self, number: int) -> None:
        num_tokens = SESSION_TOKENS * (number + 1) // len(self._prompts)
        while not self._is_over:
            life = await self._speak(self._user.talk(), number, num_tokens)
            self.lives.append(life)
            num_tokens = SESSION_TOKENS
            if life.has_failed:
                await asyncio.sleep(AFTER_FAILURE_SECONDS)

    async def _speak(self, talk: Talk, number: int, num_tokens: int) -> Life:
        waits: list[float] = []
        has_failed = False
        try:
            await talk.read(self._prompts[number])
            self._speaking[talk.revision] += 1
            self._talks.add(talk)
            try:
                while len(waits) < num_tokens and not self._is_over:
                    waits.append((await talk.next()).seconds)
            finally:
                self._speaking[talk.revision] -= 1
                self._talks.discard(talk)
        except PeerError as error:
            logger.error("a session ended after %d tokens: %s", len(talk.ids), error)
            has_failed = True
        finally:
            await talk.close()
        expected = self._expected[talk.revision][number]
        num_wrong = sum(a != b for a, b in zip(talk.ids, expected, strict=False))
        return Life(talk.revision, tuple(waits), num_wrong, talk.num_failovers, has_failed)


@dataclass(frozen=True)
class LivesRow:
    """Sessions of one revision. A stall is the longest wait of a session for a token; p50 and p99 are
    over the sessions."""

    during: str
    revision: str
    sessions: int
    failed: int
    tokens: int
    wrong_tokens: int
    failovers: int
    token_ms_p50: float
    longest_stall_ms_p50: float
    longest_stall_ms_p99: float


def row_of(lives: Sequence[Life], *, during: str, revision: str) -> LivesRow:
    stalls = Times.of([max(life.waits) for life in lives if life.waits])
    return LivesRow(
        during,
        revision,
        sessions=len(lives),
        failed=sum(life.has_failed for life in lives),
        tokens=sum(len(life.waits) for life in lives),
        wrong_tokens=sum(life.num_wrong for life in lives),
        failovers=sum(life.num_failovers for life in lives),
        token_ms_p50=Times.of([wait for life in lives for wait in life.waits]).p50_ms,
        longest_stall_ms_p50=stalls.p50_ms,
        longest_stall_ms_p99=stalls.p99_ms,
    )


def results_of(lives: Sequence[Life], during: str) -> dict[str, Result]:
    row = row_of(lives, during=during, revision="")
    return {
        f"sessions_under_{during}": row.sessions,
        f"sessions_failed_under_{during}": row.failed,
        f"tokens_under_{during}": row.tokens,
        f"wrong_tokens_under_{during}": row.wrong_tokens,
        f"failovers_under_{during}": row.failovers,
        f"longest_stall_ms_p50_under_{during}": row.longest_stall_ms_p50,
        f"longest_stall_ms_p99_under_{during}": row.longest_stall_ms_p99,
    }
