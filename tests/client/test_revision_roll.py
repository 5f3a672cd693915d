"""A revision ends under live sessions: what follows is what the new weights say after the whole text."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import torch

from seshu_swarm.client.chain.session import RemoteSession
from seshu_swarm.client.config import ChatConfig
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.client.remote.sampling import Sampler
from seshu_swarm.client.remote.token_session import TokenSession
from seshu_swarm.client.remote.turns import question_ids
from seshu_swarm.client.terminal.talk import Talk
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import RevisionRetiredError
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.peer.host import DRAIN_SECONDS
from tests.client.rolls import Rolling, pieces_of_text, until
from tests.conftest import TinyCheckpoint

torch.set_num_threads(1)

NUM_SESSIONS = 20
NUM_AFTER = 12
GREEDY = Sampler(0.0, 0)
TOKENISER = ByteTokeniser()
EOS = TOKENISER.eos_id
ENDLESS = 1_000_000


class Writer:
    """A text that grows until it is told how far."""

    def __init__(self, model: RemoteModel, number: int) -> None:
        self.prompt = [70 + number % 100, *range(80, 90 + number % 7)]
        self.session = TokenSession(model)
        self.tokens: list[int] = []
        self.last = ENDLESS

    async def write(self) -> None:
        text = self.session.generate(self.prompt, choose=GREEDY, max_new_tokens=ENDLESS)
        async for token in text:
            self.tokens.append(token)
            if len(self.tokens) >= self.last:
                break
        await text.aclose()  # type: ignore[attr-defined]
        await self.session.close()

    def check(self, wholes: dict[str, WholeModel]) -> None:
        for revision, read, said in pieces_of_text(self.prompt, self.tokens, self.session):
            assert said == wholes[revision].generate_greedy(read, max_new_tokens=len(said))


def test_twenty_live_sessions_outlive_two_revisions(
    rolling: Rolling, revisions: list[TinyCheckpoint], wholes: dict[str, WholeModel]
) -> None:
    """No host has room for two: every text goes on by itself, and none fails, lacks or repeats a token."""
    rolling.hosted("cramped-0", "0:2", is_cramped=True)
    rolling.hosted("cramped-1", "2:4", is_cramped=True)
    first, second = revisions

    async def begun() -> tuple[list[Writer], list[asyncio.Task[None]]]:
        model = await rolling.model()
        writers = [Writer(model, number) for number in range(NUM_SESSIONS)]
        tasks = [asyncio.create_task(writer.write()) for writer in writers]
        await until(lambda: all(len(writer.tokens) > 3 for writer in writers))
        return writers, tasks

    async def rolled(writers: list[Writer], num_rolls: int) -> None:
        await until(lambda: all(len(w.session.rolls) == num_rolls for w in writers), seconds=40.0)
        goals = [len(writer.tokens) + NUM_AFTER for writer in writers]
        await until(
            lambda: all(len(w.tokens) >= g for w, g in zip(writers, goals, strict=True)),
            seconds=20.0,
        )

    async def ended(writers: list[Writer], tasks: list[asyncio.Task[None]]) -> None:
        for writer in writers:
            writer.last = 0
        await asyncio.gather(*tasks)

    writers, tasks = rolling.run(begun())
    for number, checkpoint in enumerate((second, first)):
        rolling.publish(checkpoint)
        rolling.run(rolled(writers, number + 1))
    rolling.run(ended(writers, tasks))
    for writer in writers:
        rolls = writer.session.rolls
        assert [roll.revision for roll in rolls] == [second.revision, first.revision]
        assert len(writer.prompt) < rolls[0].num_tokens < rolls[1].num_tokens
        writer.check(wholes)


def test_who_holds_hidden_states_only_is_told_and_frees_the_peer(
    rolling: Rolling, revisions: list[TinyCheckpoint], tmp_path: Path
) -> None:
    """Nothing waits for its next step: the host has its memory back at once."""
    host = rolling.hosted("cramped-raw", "0:4", is_cramped=True)

    async def begun() -> tuple[RemoteModel, RemoteSession]:
        model = await rolling.model()
        session = model.session()
        await session.step(model.embed(torch.tensor([[70, 71, 72]])))
        return model, session

    async def over(model: RemoteModel, session: RemoteSession) -> None:
        began = time.monotonic()
        await until(lambda: host.revisions == (revisions[1].revision,))
        assert time.monotonic() - began < DRAIN_SECONDS - 1.0
        for _ in range(2):
            with pytest.raises(RevisionRetiredError, match="begin a new session") as caught:
                await session.step(model.embed(torch.tensor([[73]])))
            assert caught.value.revision == revisions[0].revision
            assert caught.value.newest == revisions[1].revision
        with pytest.raises(RevisionRetiredError):
            await session.save(tmp_path / "session.safetensors")
        assert session.recoveries == []
        await session.close()

    model, session = rolling.run(begun())
    rolling.publish(revisions[1])
    rolling.run(over(model, session))


def test_a_talk_goes_on_with_the_next_question(
    rolling: Rolling, revisions: list[TinyCheckpoint], wholes: dict[str, WholeModel]
) -> None:
    """The revision ends while its user thinks; what he saved before is refused afterwards."""
    first, second = revisions
    path = rolling.folder / "talk.safetensors"
    host = rolling.hosted("cramped-talk", "0:4", is_cramped=True)

    async def ask(talk: Talk, question: str) -> str:
        return "".join([text async for text in talk.answer(question)])

    async def begun() -> tuple[Talk, str]:
        talk = Talk(await rolling.model(), ChatConfig(max_new_tokens=NUM_AFTER, ignore_end=True))
        answer = await ask(talk, "one")
        return talk, answer

    async def went_on(talk: Talk) -> list[str]:
        await until(lambda: host.revisions == (second.revision,))
        answers = [await ask(talk, "two"), await ask(talk, "three")]
        position = talk.position
        await talk.reset()
        answers.append(await ask(talk, "one"))
        assert talk.position < position
        assert [roll.revision for roll in talk.rolls] == [second.revision]
        await talk.close()
        return answers

    def expected(read: list[int], question: str, revision: str) -> list[int]:
        read += question_ids(TOKENISER, question)
        said = wholes[revision].generate_greedy(read, max_new_tokens=NUM_AFTER)
        read += [*said, EOS]
        return said

    talk, answer = rolling.run(begun())
    rolling.run(talk.save(path))
    rolling.publish(second)
    answers = [answer, *rolling.run(went_on(talk))]
    read: list[int] = []
    told = [expected(read, "one", first.revision)]
    num_read = len(read)
    told += [expected(read, question, second.revision) for question in ("two", "three")]
    told.append(expected([], "one", second.revision))
    assert answers == [TOKENISER.decode(said) for said in told]
    assert talk.rolls[0].num_tokens == num_read
    with pytest.raises(RevisionRetiredError, match="with the whole text"):
        rolling.run(loaded(rolling, path))


async def loaded(rolling: Rolling, path: Path, revision: str | None = None) -> RemoteSession:
    return await (await rolling.model(revision)).load_session(path)
