"""One compute queue for all sessions: batched, fair, and equal to each session alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import torch

from seshu_swarm.exchange.payloads import BlockState, Hidden
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.peer import engine as engine_module
from seshu_swarm.peer.engine import CHUNK_TOKENS, MAX_BATCH, Engine
from seshu_swarm.peer.hosted import Hosted
from seshu_swarm.peer.served import ServedSpan
from seshu_swarm.sessions.messages import At, Open, Piece, Snapshot, To
from seshu_swarm.sessions.part import Part
from seshu_swarm.spans import Span
from tests.conftest import TinyCheckpoint
from tests.fleets import pieces_of

SPAN = Span(0, 4)
FAR = 1 << 16  # no snapshot cuts a chunk


class Bench:
    """Parts at one engine, and what was computed: (sessions, tokens) of each call, in order."""

    def __init__(self, served: ServedSpan, monkeypatch: pytest.MonkeyPatch) -> None:
        self.served, self.calls = served, list[tuple[int, int]]()
        self.outputs: dict[Hosted, list[torch.Tensor]] = {}
        self.order: list[Hosted] = []
        self.engine = Engine(self._deliver)
        forward = engine_module._forward

        def spied(
            served: ServedSpan, inputs: list[Hidden], states: list[RecurrentState]
        ) -> tuple[list[torch.Tensor], list[RecurrentState]]:
            self.calls.append((len(inputs), inputs[0].count))
            return forward(served, inputs, states)

        monkeypatch.setattr(engine_module, "_forward", spied)

    def part(self, span: Span = SPAN, snapshot_tokens: int = FAR) -> Hosted:
        opened = Open[BlockState](0, span, "", "", 0, None, snapshot_tokens)
        part = Part[Hidden, BlockState](opened)
        hosted = Hosted(
            part_id=bytes(16),
            client="me",
            served=self.served,
            part=part,
            wire_type="float32",
            used_at=0.0,
        )
        part.go_on("", At(0, 0))
        self.outputs[hosted] = []
        return hosted

    def give(self, hosted: Hosted, pieces: Sequence[torch.Tensor]) -> None:
        for piece in pieces:
            hosted.part.receive("", Piece(0, hosted.part.received, Hidden(piece)))
            self.engine.wake(hosted)

    def _deliver(self, hosted: Hosted, sending: list[To[Hidden, BlockState]]) -> None:
        for to in sending:
            if isinstance(to.message, Piece):
                self.outputs[hosted].append(to.message.payload.tensor)
                self.order.append(hosted)
            assert isinstance(to.message, Piece | Snapshot)

    async def idle(self) -> None:
        """Until nothing is left to compute."""
        async with asyncio.timeout(20):
            while self.engine._task is not None and not self.engine._task.done():
                await asyncio.sleep(0.001)

    def output(self, hosted: Hosted) -> torch.Tensor:
        return torch.cat(self.outputs[hosted], dim=1)


@pytest.fixture(scope="module")
def served(tiny: TinyCheckpoint) -> ServedSpan:
    return ServedSpan.load(tiny.folder, tiny.revision, SPAN)


@pytest.fixture
def bench(served: ServedSpan, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(served, monkeypatch)


def alone(served: ServedSpan, pieces: list[torch.Tensor], span: Span = SPAN) -> torch.Tensor:
    state, found = served.fresh_state(span), []
    for piece in pieces:
        output, state = served.compute(state, piece)
        found.append(output)
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("num_sessions", [2, 8, MAX_BATCH, MAX_BATCH + 3])
def test_single_tokens_of_all_sessions_are_one_call_and_equal_each_alone(
    bench: Bench, served: ServedSpan, num_sessions: int
) -> None:
    num_tokens = 12
    pieces = [pieces_of(*[1] * num_tokens, seed=number) for number in range(num_sessions)]

    async def compute() -> list[Hosted]:
        sessions = [bench.part() for _ in pieces]
        for step in range(num_tokens):
            for hosted, given in zip(sessions, pieces, strict=True):
                bench.give(hosted, [given[step]])
            await bench.idle()
        return sessions

    sessions = asyncio.run(compute())
    for hosted, given in zip(sessions, pieces, strict=True):
        assert torch.equal(bench.output(hosted), alone(served, given))
        assert hosted.part.position == num_tokens
    calls_of_a_step = -(-num_sessions // MAX_BATCH)
    assert len(bench.calls) == num_tokens * calls_of_a_step
    assert max(size for size, _ in bench.calls) == min(num_sessions, MAX_BATCH)
    assert bench.engine.num_steps == num_tokens * num_sessions
    assert bench.engine.pace.seconds > 0
    bench.engine.close()


def test_only_the_same_blocks_are_batched(bench: Bench, served: ServedSpan) -> None:
    spans = [SPAN, Span(0, 2), SPAN, Span(2, 4), Span(0, 2)]
    [piece] = pieces_of(1)

    async def compute() -> list[Hosted]:
        sessions = [bench.part(span) for span in spans]
        for hosted in sessions:
            bench.give(hosted, [piece])
        await bench.idle()
        return sessions

    sessions = asyncio.run(compute())
    assert sorted(size for size, _ in bench.calls) == [1, 2, 2]
    for hosted, span in zip(sessions, spans, strict=True):
        assert torch.equal(bench.output(hosted), alone(served, [piece], span))


def test_nobody_waits_for_somebody_else_s_prompt(bench: Bench, served: ServedSpan) -> None:
    """A prompt goes in chunks; between two of them, everyone who waits has a turn."""
    prompt = pieces_of(*[512] * 4, seed=1)
    tokens = pieces_of(*[1] * 6, seed=2)

    async def compute() -> tuple[Hosted, Hosted]:
        long, short = bench.part(), bench.part()
        bench.give(long, prompt)
        for number, token in enumerate(tokens):
            bench.give(short, [token])
            while short.part.position <= number:
                await asyncio.sleep(0.0001)
        await bench.idle()
        return long, short

    long, short = asyncio.run(compute())
    chunks = [tokens for _, tokens in bench.calls if tokens > 1]
    assert chunks == [CHUNK_TOKENS] * (2048 // CHUNK_TOKENS)
    turns = bench.order
    first, last = turns.index(short), len(turns) - 1 - turns[::-1].index(short)
    assert first <= 2
    # Between two tokens of the short one at most two chunks: one under way, and one that came first.
    between = [hosted for hosted in turns[first:last] if hosted is long]
    assert len(between) <= 2 * (len(tokens) - 1)
    assert torch.allclose(bench.output(long), alone(served, prompt), atol=1e-5)
    assert torch.allclose(bench.output(short), alone(served, tokens), atol=1e-5)
    bench.engine.close()


def test_chunks_end_where_a_snapshot_is_due(bench: Bench, served: ServedSpan) -> None:
    async def compute() -> Hosted:
        hosted = bench.part(snapshot_tokens=100)
        bench.give(hosted, pieces_of(512))
        await bench.idle()
        return hosted

    hosted = asyncio.run(compute())
    assert [tokens for _, tokens in bench.calls] == [100] * 5 + [12]
    assert torch.allclose(bench.output(hosted), alone(served, pieces_of(512)), atol=1e-5)


def test_the_event_loop_turns_while_a_prompt_is_computed(bench: Bench) -> None:
    async def compute() -> tuple[int, int]:
        hosted, turns = bench.part(), 0
        bench.give(hosted, pieces_of(*[512] * 4))
        while hosted.part.position < 2048:
            await asyncio.sleep(0)
            turns += 1
        return turns, len(bench.calls)

    turns, calls = asyncio.run(compute())
    assert turns > 10 * calls
    bench.engine.close()


def test_what_is_over_is_computed_no_more(bench: Bench) -> None:
    async def compute() -> Hosted:
        over, other = bench.part(), bench.part()
        bench.give(over, pieces_of(*[512] * 8))
        while not over.part.position:
            await asyncio.sleep(0.0001)
        over.failed.set()
        bench.engine.forget(over)
        bench.give(other, pieces_of(1))
        await bench.idle()
        return over

    over = asyncio.run(compute())
    # The chunk that was under way, and not the next ones.
    assert over.part.position <= 3 * CHUNK_TOKENS
    bench.engine.close()


def test_a_failure_ends_its_sessions_and_no_others(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def compute() -> tuple[Hosted, Hosted]:
        broken, other = bench.part(Span(0, 2)), bench.part()
        forward = engine_module._forward

        def out_of_memory(
            served: ServedSpan, inputs: list[Hidden], states: list[RecurrentState]
        ) -> tuple[list[torch.Tensor], list[RecurrentState]]:
            if states[0].span == Span(0, 2):
                raise MemoryError("no room for these blocks")
            return forward(served, inputs, states)

        monkeypatch.setattr(engine_module, "_forward", out_of_memory)
        bench.give(broken, pieces_of(1))
        bench.give(other, pieces_of(1))
        await bench.idle()
        return broken, other

    broken, other = asyncio.run(compute())
    assert broken.failed.is_set() and broken.why is not None and broken.why.name == "INTERNAL"
    assert "computing 1 session(s)" in caplog.text
    assert not other.failed.is_set() and other.part.position == 1
    bench.engine.close()
