"""When a revision has ended and when its peers are only away; what is refused then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm.client.chain import mending
from seshu_swarm.client.chain.revisions import Newest, has_ended
from seshu_swarm.client.pretrained.model import RemoteModelForCausalLM
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.client.remote.sampling import Sampler
from seshu_swarm.client.remote.token_session import TokenSession
from seshu_swarm.errors import PackageError, RevisionRetiredError
from seshu_swarm.mamba.whole import WholeModel
from tests.client.rolls import Rolling, until
from tests.conftest import TinyCheckpoint

torch.set_num_threads(1)

PROMPT = [70, 71, 72, 80, 81]
NUM_NEW = 10
OLD, NEW = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("newest", "is_told", "is_late", "ended"),
    [
        (None, True, True, False),
        (Newest(OLD, is_served=True), True, True, False),
        (Newest(NEW, is_served=True), False, False, True),
        (Newest(NEW, is_served=False), False, False, False),
        (Newest(NEW, is_served=False), True, False, True),
        (Newest(NEW, is_served=False), False, True, True),
    ],
)
def test_a_revision_ends_only_for_a_newer_one(
    newest: Newest | None, is_told: bool, is_late: bool, ended: bool
) -> None:
    assert has_ended(OLD, newest, is_told=is_told, is_late=is_late) is ended


async def said(session: TokenSession, ids: list[int]) -> list[int]:
    text = session.generate(ids, choose=Sampler(0.0, 0), max_new_tokens=NUM_NEW)
    return [token async for token in text]


async def begun(rolling: Rolling, revision: str | None = None) -> tuple[TokenSession, list[int]]:
    session = TokenSession(await rolling.model(revision))
    return session, await said(session, PROMPT)


def test_while_one_peer_keeps_the_revision_nothing_is_read_again(
    rolling: Rolling, revisions: list[TinyCheckpoint], wholes: dict[str, WholeModel]
) -> None:
    """The state of the peer that gives it up goes to the one that does not."""
    cramped = rolling.hosted("cramped", "0:4", is_cramped=True)
    session, tokens = rolling.run(begun(rolling))
    assert session.peers == [cramped.peer_id]
    kept = rolling.hosted("kept", "0:4", follows=False)
    rolling.publish(revisions[1])

    async def went_on() -> list[int]:
        await until(lambda: cramped.revisions == (revisions[1].revision,))
        assert kept.num_sessions == 1
        steps = kept.peer._service.engine.num_steps
        more = await said(session, tokens[-1:])
        # One for each token, and none for the text before.
        assert kept.peer._service.engine.num_steps - steps <= NUM_NEW
        await session.close()
        return more

    more = rolling.run(went_on())
    whole = wholes[revisions[0].revision]
    assert [*tokens, *more] == whole.generate_greedy(PROMPT, max_new_tokens=2 * NUM_NEW)
    assert session.rolls == [] and session.revision == revisions[0].revision
    assert len(session.recoveries) == 1 and "it leaves" in session.recoveries[0]


def test_peers_that_are_away_for_a_moment_are_waited_for(
    rolling: Rolling,
    revisions: list[TinyCheckpoint],
    wholes: dict[str, WholeModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run has a newer revision, but nobody serves it and nobody gave this one up."""
    monkeypatch.setattr(mending, "FIND_SECONDS", 20.0)
    host = rolling.hosted("away", "0:4", follows=False)
    session, tokens = rolling.run(begun(rolling))
    rolling.publish(revisions[1])

    async def away_and_back() -> list[int]:
        service = host.peer._service
        service.is_draining = True
        await host.peer._announce()
        service.notify("DRAINING")
        going_on = asyncio.create_task(said(session, tokens[-1:]))
        await asyncio.sleep(1.0)
        assert not going_on.done()
        service.is_draining = False
        await host.peer._announce()
        more = await going_on
        await session.close()
        return more

    more = rolling.run(away_and_back())
    whole = wholes[revisions[0].revision]
    assert [*tokens, *more] == whole.generate_greedy(PROMPT, max_new_tokens=2 * NUM_NEW)
    assert session.rolls == []


def test_a_host_with_room_keeps_both_while_a_session_needs_it(
    rolling: Rolling, revisions: list[TinyCheckpoint], wholes: dict[str, WholeModel]
) -> None:
    host = rolling.hosted("roomy", "0:4")
    session, tokens = rolling.run(begun(rolling))
    rolling.publish(revisions[1])
    both = tuple(checkpoint.revision for checkpoint in revisions)

    async def went_on() -> tuple[list[int], list[int]]:
        await until(lambda: host.revisions == both)
        more = await said(session, tokens[-1:])
        newer, other = await begun(rolling)
        assert newer.revision == both[1]
        await session.close()
        await until(lambda: host.revisions == both[1:])
        await newer.close()
        return more, other

    more, other = rolling.run(went_on())
    assert [*tokens, *more] == wholes[both[0]].generate_greedy(PROMPT, max_new_tokens=2 * NUM_NEW)
    assert other == wholes[both[1]].generate_greedy(PROMPT, max_new_tokens=NUM_NEW)


def test_a_revision_chosen_by_name_is_not_left(
    rolling: Rolling, revisions: list[TinyCheckpoint]
) -> None:
    host = rolling.hosted("cramped", "0:4", is_cramped=True)
    session, tokens = rolling.run(begun(rolling, revisions[0].revision))
    rolling.publish(revisions[1])

    async def refused() -> None:
        await until(lambda: host.revisions == (revisions[1].revision,))
        with pytest.raises(RevisionRetiredError, match="nobody serves revision"):
            await said(session, tokens[-1:])
        await session.close()

    rolling.run(refused())


def test_a_saved_session_of_another_revision_is_refused_by_name(
    rolling: Rolling, revisions: list[TinyCheckpoint], tmp_path: Path
) -> None:
    """While its revision is served it says how to go on there, and afterwards that it cannot."""
    path, (first, second) = tmp_path / "session.safetensors", revisions
    host = rolling.hosted("roomy", "0:4")

    async def loaded(revision: str | None = None) -> int:
        model: RemoteModel = await rolling.model(revision)
        session = await model.load_session(path)
        await session.step(model.embed(torch.tensor([[70]])))
        position = session.position
        await session.close()
        return position

    async def saved() -> TokenSession:
        session, _ = await begun(rolling)
        await session.save(path)
        return session

    session = rolling.run(saved())
    rolling.publish(second)
    rolling.run(until(lambda: len(host.revisions) == 2))
    with pytest.raises(PackageError, match=f"revision='{first.revision}'"):
        rolling.run(loaded())
    position = rolling.run(loaded(first.revision))
    assert position == session.position + 1
    rolling.run(session.close())
    rolling.run(until(lambda: len(host.revisions) == 1))
    for revision in (None, first.revision):
        with pytest.raises(RevisionRetiredError, match="with the whole text"):
            rolling.run(loaded(revision))


def generated(model: Any, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    fixed = {"attention_mask": torch.ones_like(ids), "do_sample": False, "eos_token_id": None}
    found: torch.Tensor = model.generate(
        ids, max_new_tokens=NUM_NEW, pad_token_id=0, **fixed, **options
    )
    return found


def test_a_transformers_session_goes_on(
    rolling: Rolling, revisions: list[TinyCheckpoint], wholes: dict[str, WholeModel]
) -> None:
    """Two rows, and a third text that begins after the end of the model's own revision."""
    host = rolling.hosted("cramped", "0:4", is_cramped=True)
    rows = [PROMPT, [90, 91, 92, 93, 94]]

    def first() -> tuple[Any, Any]:
        model = RemoteModelForCausalLM.from_pretrained(
            rolling.link, state_dir=str(rolling.folder / "transformers"), host="127.0.0.1"
        )
        session = model.session()
        generated(model, torch.tensor(rows), session=session)
        return model, session

    def second(model: Any, session: Any) -> tuple[list[list[int]], list[int]]:
        with model, session:
            generated(model, torch.tensor([[75], [76]]), session=session)
            with pytest.raises(RevisionRetiredError), torch.no_grad():
                model(
                    inputs_embeds=model.get_input_embeddings()(torch.tensor([PROMPT])),
                    use_cache=True,
                )
            return session.texts, generated(model, torch.tensor([PROMPT]))[0].tolist()

    model, session = rolling.run(asyncio.to_thread(first))
    rolling.publish(revisions[1])
    rolling.run(until(lambda: host.revisions == (revisions[1].revision,)))
    texts, fresh = rolling.run(asyncio.to_thread(second, model, session))
    old, new = (wholes[checkpoint.revision] for checkpoint in revisions)
    for row, more, text in zip(rows, (75, 76), texts, strict=True):
        begin = [*row, *old.generate_greedy(row, max_new_tokens=NUM_NEW), more]
        assert text == [*begin, *new.generate_greedy(begin, max_new_tokens=NUM_NEW)]
    assert fresh == [*PROMPT, *new.generate_greedy(PROMPT, max_new_tokens=NUM_NEW)]
    assert [roll.revision for roll in session.rolls] == [revisions[1].revision] * 2
    # The newest token of the first turn was not absorbed yet.
    assert {roll.num_tokens for roll in session.rolls} == {len(PROMPT) + NUM_NEW - 1}
