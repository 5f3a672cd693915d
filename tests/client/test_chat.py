"""Talking with the model: each turn against the whole model fed with the whole talk."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm.client.config import ChatConfig
from seshu_swarm.client.remote.turns import Turn, conversation_ids, question_ids
from seshu_swarm.client.terminal.lines import Interrupts
from seshu_swarm.client.terminal.talk import INTERRUPT_SECONDS, Talk
from seshu_swarm.data.prompts import encode_row
from seshu_swarm.data.text import Row
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import DataError, DeadlineError, PeerError, UsageError
from seshu_swarm.spans import Span
from tests.client.gateways import Fleet, start_fleet
from tests.conftest import TinyCheckpoint
from tests.loopback import Loopback

TOKENISER = ByteTokeniser()
EOS = TOKENISER.eos_id
QUESTIONS = ("நலமா?", "and then", "फिर")


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    return start_fleet(loopback, tiny)


def settings(**fields: object) -> ChatConfig:
    return ChatConfig(**({"max_new_tokens": 9} | fields))  # type: ignore[arg-type]


async def ask(talk: Talk, question: str) -> str:
    return "".join([text async for text in talk.answer(question)])


class Reference:
    """The whole model, which reads the whole talk again for every answer."""

    def __init__(self, fleet: Fleet, *, ends: bool = True) -> None:
        self._fleet, self._stop_ids = fleet, {EOS} if ends else set[int]()
        self.ids: list[int] = []

    def answer(self, question: str, num_tokens: int = 9, system: str = "") -> str:
        self.ids += question_ids(TOKENISER, question, system)
        tokens = self._fleet.whole.generate_greedy(
            self.ids, max_new_tokens=num_tokens, stop_ids=self._stop_ids
        )
        self.ids += [*tokens, EOS]
        return TOKENISER.decode(tokens)


def test_turns_are_rows_one_after_another() -> None:
    row = Row("Name in Hindi", "Japan", "जापान", "hi")
    ids, _ = encode_row(TOKENISER, row, 1_000)
    turns = [Turn("Japan", "जापान"), Turn("China")]
    expected = [*ids, *TOKENISER.encode("Q: China\nA: ")]
    assert conversation_ids(TOKENISER, turns, "Name in Hindi") == expected
    assert conversation_ids(TOKENISER, [Turn("")]) == []


@pytest.mark.parametrize("system", ["", "Be kind"])
@pytest.mark.parametrize("ends", [True, False])
def test_a_talk_steps_only_what_is_new(fleet: Fleet, ends: bool, system: str) -> None:
    reference = Reference(fleet, ends=ends)

    async def turns() -> tuple[list[str], list[int]]:
        await fleet.announce()
        talk = Talk(fleet.model(), settings(ignore_end=not ends, system=system))
        answers, positions = [], []
        for question in QUESTIONS:
            answers.append(await ask(talk, question))
            positions.append(talk.position)
        await talk.close()
        return answers, positions

    answers, positions = fleet.loopback.run(turns())
    assert answers[0] == reference.answer(QUESTIONS[0], system=system)
    lengths = [len(reference.ids)]
    for answer, question in zip(answers[1:], QUESTIONS[1:], strict=True):
        assert answer == reference.answer(question)
        lengths.append(len(reference.ids))
    # Every id was stepped once, but for the last ones, which wait for the next question.
    waiting = [length - position for length, position in zip(lengths, positions, strict=True)]
    assert set(waiting) <= {1, 2}


def test_an_interrupted_answer_ends_there_and_the_talk_goes_on(fleet: Fleet) -> None:
    async def turns() -> list[str]:
        await fleet.announce()
        talk = Talk(fleet.model(), settings(ignore_end=True, max_new_tokens=500))
        first: list[str] = []
        async for text in talk.answer("one"):
            first.append(text)
            if len(first) == 4:
                talk.interrupt()
        num_tokens.append(talk.num_tokens)
        second = talk.answer("two")
        after = [await anext(second) for _ in range(4)]
        await second.aclose()  # type: ignore[attr-defined]
        await talk.close()
        return ["".join(first), "".join(after)]

    num_tokens: list[int] = []
    first, after = fleet.loopback.run(turns())
    reference = Reference(fleet, ends=False)
    assert num_tokens[0] < 20
    assert first == reference.answer("one", num_tokens[0])
    assert reference.answer("two", 60).startswith(after)


def test_a_saved_talk_goes_on_elsewhere_and_reset_forgets(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "talk.safetensors"

    async def turns() -> list[str]:
        await fleet.announce()
        talk, other = Talk(fleet.model(), settings()), Talk(fleet.model(), settings())
        with pytest.raises(UsageError, match="nothing to save"):
            await talk.save(path)
        answers = [await ask(talk, "one")]
        await talk.save(path)
        answers.append(await ask(talk, "two"))
        await ask(other, "something else")
        await other.load(path)
        answers.append(await ask(other, "two"))
        await other.reset()
        answers.append(await ask(other, "one"))
        with pytest.raises(UsageError, match="nowhere"):
            await other.load(tmp_path / "nowhere")
        for each in (talk, other):
            await each.close()
        return answers

    answers = fleet.loopback.run(turns())
    reference = Reference(fleet)
    expected = [reference.answer("one"), reference.answer("two")]
    assert answers == [*expected, expected[1], expected[0]]


def test_a_question_that_is_no_text_changes_nothing(fleet: Fleet) -> None:
    async def turns() -> list[str]:
        await fleet.announce()
        talk = Talk(fleet.model(), settings())
        with pytest.raises(DataError, match="UTF-8"):
            await ask(talk, "\udce0")
        answers = [await ask(talk, "one")]
        await talk.close()
        return answers

    assert fleet.loopback.run(turns()) == [Reference(fleet).answer("one")]


@dataclass
class Alone:
    """One peer with all blocks, which leaves while a person talks, and another one later."""

    fleet: Fleet
    talk: Talk

    def lose(self) -> None:
        self.fleet.loopback.run(self.fleet.loopback.leave(self.fleet.hosts.pop().swarm))

    def find(self) -> None:
        self.fleet.start_host(f"late-{next(NUMBERS)}", Span(0, 4))

    def ask(self, question: str) -> str:
        return self.fleet.loopback.run(ask(self.talk, question))


NUMBERS = itertools.count()


@pytest.fixture
def alone(loopback: Loopback, tiny: TinyCheckpoint, fleet: Fleet) -> Iterator[Alone]:
    lonely = loopback.join(f"lonely-{next(NUMBERS)}")
    own = Fleet(loopback, tiny, fleet.whole, lonely, [])
    model = own.model()

    async def find(**more: object) -> list[object]:
        return [host.offer for host in own.hosts]

    model.offers = find  # type: ignore[method-assign,assignment]
    found = Alone(own, Talk(model, settings()))
    found.find()
    yield found
    loopback.run(found.talk.close())


def test_when_every_peer_is_lost_the_talk_is_read_again(fleet: Fleet, alone: Alone) -> None:
    """The failed question is forgotten; the next one comes with everything before it."""
    answers = [alone.ask("one")]
    alone.lose()
    with pytest.raises(PeerError):
        alone.ask("two")
    alone.find()
    answers.append(alone.ask("three"))
    reference = Reference(fleet)
    assert answers == [reference.answer("one"), reference.answer("three")]


def test_an_answer_that_does_not_come_can_be_given_up(fleet: Fleet, alone: Alone) -> None:
    """Peers are looked for over seconds; a person who interrupts does not wait for that."""
    answers = [alone.ask("one")]
    alone.lose()

    async def interrupted() -> float:
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.2, alone.talk.interrupt)
        with pytest.raises(DeadlineError, match="given up"):
            await ask(alone.talk, "two")
        return time.monotonic() - began

    assert 0.2 + INTERRUPT_SECONDS <= fleet.loopback.run(interrupted()) < 3.0
    alone.find()
    answers.append(alone.ask("three"))
    reference = Reference(fleet)
    assert answers == [reference.answer("one"), reference.answer("three")]


def test_an_answer_that_is_cancelled_leaves_no_step_behind(fleet: Fleet, alone: Alone) -> None:
    """As by the second Ctrl-C: a step that went on would look for peers of a session that is over."""
    answers = [alone.ask("one")]
    alone.lose()

    async def cancelled() -> set[str]:
        before = asyncio.all_tasks()
        answering = asyncio.create_task(ask(alone.talk, "two"))
        await asyncio.sleep(0.2)
        during = asyncio.all_tasks() - before
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        return {task.get_name() for task in during if not task.done() and _is_a_step(task)}

    assert fleet.loopback.run(cancelled()) == set()
    assert answers == [Reference(fleet).answer("one")]


def _is_a_step(task: asyncio.Task[Any]) -> bool:
    return "generate" in repr(task.get_coro()) or "anext" in repr(task.get_coro())


def test_the_second_interrupt_leaves() -> None:
    said: list[str] = []
    interrupts = Interrupts(lambda: said.append("soft"), lambda: said.append("hard"))
    interrupts()
    interrupts.reset()
    interrupts()
    interrupts()
    assert said == ["soft", "soft", "hard"]
