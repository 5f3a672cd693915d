"""generate() across a real swarm: the same model in one process is the reference."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import ByT5Tokenizer
from transformers.generation.streamers import BaseStreamer

from seshu_swarm import checkpoints
from seshu_swarm.client.chain.session import RemoteSession
from seshu_swarm.client.pretrained.cache import RemoteCache
from seshu_swarm.client.pretrained.model import RemoteModelForCausalLM
from seshu_swarm.errors import LinkError, PeerError, UsageError
from seshu_swarm.mamba.model import SeshuMambaForCausalLM
from seshu_swarm.spans import Span
from tests.conftest import TinyCheckpoint
from tests.online import Online

torch.set_num_threads(1)

NUM_NEW = 12


@pytest.fixture(scope="module")
def loud(tiny: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> TinyCheckpoint:
    """Strong blocks: what it says depends on the whole text, not on the last token alone."""
    whole = checkpoints.load_whole(tiny.folder)
    with torch.no_grad():
        for block in whole.span.blocks:
            block.get_parameter("mixer.out_proj.weight").mul_(4)
    folder = tmp_path_factory.mktemp("loud") / "checkpoint"
    revision = checkpoints.save_checkpoint(
        folder,
        shape=whole.shape,
        tensors=whole.checkpoint_tensors(),
        about={"parent": None, "round": 0},
        card="A tiny model with strong blocks.\n",
    )
    return TinyCheckpoint(folder, revision)


@pytest.fixture(scope="module")
def online(loud: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Online]:
    swarm = Online(tmp_path_factory.mktemp("online"), loud)
    for name, span in {"0:2": Span(0, 2), "2:4": Span(2, 4)}.items():
        swarm.host(name, span)
    yield swarm
    swarm.close()


@pytest.fixture(scope="module")
def local(loud: TinyCheckpoint) -> SeshuMambaForCausalLM:
    model: SeshuMambaForCausalLM = SeshuMambaForCausalLM.from_pretrained(loud.folder)
    return model


@pytest.fixture(scope="module")
def model(
    online: Online, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RemoteModelForCausalLM]:
    with connected(online, tmp_path_factory.mktemp("client")) as model:
        yield model


def connected(online: Online, folder: Path, **options: Any) -> RemoteModelForCausalLM:
    return RemoteModelForCausalLM.from_pretrained(
        online.link, state_dir=str(folder), host="127.0.0.1", **options
    )


def some_ids(batch: int = 2, length: int = 9, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 259, (batch, length), generator=generator)


def padded_left(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch of texts (1, length) and its mask."""
    length = max(row.shape[1] for row in rows)
    blanks = [torch.zeros(1, length - row.shape[1], dtype=torch.int64) for row in rows]
    ids = [torch.cat([blank, row], dim=1) for blank, row in zip(blanks, rows, strict=True)]
    mask = [
        torch.cat([blank, torch.ones_like(row)], dim=1)
        for blank, row in zip(blanks, rows, strict=True)
    ]
    return torch.cat(ids), torch.cat(mask)


def generated(model: Any, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    """NUM_NEW tokens more from one seed, unless something ends them."""
    torch.manual_seed(3)
    defaults = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": NUM_NEW,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    found: torch.Tensor = model.generate(ids, **(defaults | options))
    return found


WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 0.8, "top_k": 9, "top_p": 0.9},
    "several sequences": {"do_sample": True, "num_return_sequences": 3},
    "repetition penalty": {"repetition_penalty": 1.5, "no_repeat_ngram_size": 3},
    "beams without a cache": {"num_beams": 2, "use_cache": False, "max_new_tokens": 3},
}


@pytest.mark.parametrize("way", WAYS)
def test_generate_equals_the_model_in_one_process(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM, way: str
) -> None:
    ids = some_ids()
    found = generated(model, ids, **WAYS[way])
    assert found.shape[1] > ids.shape[1]
    assert torch.equal(found, generated(local, ids, **WAYS[way]))


def test_the_reference_listens_to_the_whole_text(local: SeshuMambaForCausalLM) -> None:
    """Otherwise no test here would notice a lost state."""
    ids = some_ids(1)
    assert not torch.equal(generated(local, ids)[:, 9:], generated(local, ids[:, 4:])[:, 5:])


def test_rows_of_unequal_length_do_not_mix(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM
) -> None:
    rows = [some_ids(1, length, seed=length) for length in (9, 3, 1)]
    ids, mask = padded_left(rows)
    found = generated(model, ids, attention_mask=mask)
    for row, text in zip(rows, found, strict=True):
        assert torch.equal(text[-NUM_NEW:], generated(local, row)[0, -NUM_NEW:])


def test_embeddings_as_a_prompt(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM
) -> None:
    rows = [some_ids(1, length, seed=length) for length in (5, 8)]
    ids, mask = padded_left(rows)
    prompt = {"inputs_embeds": local.get_input_embeddings()(ids), "attention_mask": mask}
    torch.manual_seed(3)
    options: dict[str, Any] = {"max_new_tokens": NUM_NEW, "do_sample": False, "eos_token_id": None}
    found = model.generate(**prompt, **options, pad_token_id=0)
    assert torch.equal(found, generated(local, ids, attention_mask=mask)[:, ids.shape[1] :])


def test_stop_strings_and_the_end_token_stop(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM
) -> None:
    ids = some_ids(1, seed=5)
    free = generated(local, ids, max_new_tokens=60)[0, ids.shape[1] :].tolist()
    # ByT5's tokeniser is ours: byte + 3.
    token = next(t for t in free[3:] if 32 <= t - 3 < 127)
    expected = free[: free.index(token) + 1]
    stop = {"stop_strings": chr(token - 3), "tokenizer": ByT5Tokenizer()}
    for options in (stop, {"eos_token_id": token}):
        found = generated(model, ids, max_new_tokens=60, **options)
        assert found[0, ids.shape[1] :].tolist() == expected


class Listener(BaseStreamer):
    """Keeps what it is told, and does something when it has heard enough."""

    def __init__(self, after: int = 0, act: Callable[[], object] = lambda: None) -> None:
        self.heard: list[int] = []
        self.ended = False
        self._after, self._act = after, act

    def put(self, value: torch.Tensor) -> None:
        self.heard.extend(value.flatten().tolist())
        if len(self.heard) == self._after:
            self._act()

    def end(self) -> None:
        self.ended = True


def test_a_streamer_hears_the_tokens_in_order(model: RemoteModelForCausalLM) -> None:
    listener = Listener()
    found = generated(model, some_ids(1), streamer=listener)
    assert listener.ended
    assert listener.heard == found[0].tolist()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens every step carries."""
    tokens, step = list[int](), RemoteSession.step

    async def counted(session: RemoteSession, hidden: torch.Tensor) -> torch.Tensor:
        tokens.append(hidden.shape[1])
        return await step(session, hidden)

    monkeypatch.setattr(RemoteSession, "step", counted)
    return tokens


def test_several_turns_send_every_token_once(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM, sent: list[int]
) -> None:
    questions = [some_ids(1, length, seed=length) for length in (6, 4, 1)]
    text = torch.zeros(1, 0, dtype=torch.int64)
    with model.session() as session:
        for question in questions:
            found = generated(model, question, session=session, max_new_tokens=5)
            text = torch.cat([text, question], dim=1)
            expected = generated(local, text, max_new_tokens=5)
            assert torch.equal(found, expected[:, text.shape[1] - question.shape[1] :])
            text = expected
        assert session.texts == text.tolist()
    # The newest token is not yet absorbed; with the next question it goes out in one piece.
    assert sent == [6, 1, 1, 1, 1, 5, 1, 1, 1, 1, 2, 1, 1, 1, 1]


def test_turns_of_rows_that_end_at_different_tokens(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM
) -> None:
    """What comes after a row's end reaches neither its session nor its next turn."""
    first = [some_ids(1, length, seed=length) for length in (7, 4)]
    free = [generated(local, row)[0, row.shape[1] :].tolist() for row in first]
    end = next(t for t in free[0][2:-2] if t not in free[1])
    second = [some_ids(1, length, seed=length) for length in (2, 5)]
    with model.session() as session:
        ids, mask = padded_left(first)
        generated(model, ids, attention_mask=mask, session=session, eos_token_id=end)
        said = free[0][: free[0].index(end) + 1]
        assert session.texts == [first[0][0].tolist() + said, first[1][0].tolist() + free[1]]
        assert session.positions == [len(text) - 1 for text in session.texts]
        texts = [torch.tensor([text]) for text in session.texts]
        ids, mask = padded_left(second)
        found = generated(model, ids, attention_mask=mask, session=session)
    for text, row, answer in zip(texts, second, found, strict=True):
        expected = generated(local, torch.cat([text, row], dim=1))
        assert torch.equal(answer[-NUM_NEW:], expected[0, -NUM_NEW:])


def test_a_turn_may_give_several_answers_and_their_scores(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM
) -> None:
    """The rows of the first turn are the session's from then on."""
    ids, options = some_ids(1), {"do_sample": True, "top_k": 5}
    details = {"return_dict_in_generate": True, "output_scores": True}
    with model.session() as session:
        generated(model, ids, session=session, max_new_tokens=3)
        first = session.texts
        session.close()
    with model.session() as session:
        generated(model, ids, session=session, num_return_sequences=2, **options)
        texts = torch.tensor(session.texts)
        found: Any = generated(model, ids.repeat(2, 1), session=session, **options, **details)
    whole = torch.cat([texts, ids.repeat(2, 1)], dim=1)
    expected: Any = generated(local, whole, **options, **details)
    assert torch.equal(found.sequences, expected.sequences[:, texts.shape[1] :])
    for score, other in zip(found.scores, expected.scores, strict=True):
        assert torch.allclose(score, other, atol=1e-4)
    assert first == generated(local, ids, max_new_tokens=3).tolist()


def test_a_cache_given_by_hand_goes_on(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM
) -> None:
    ids = some_ids(2, 7)
    whole = local(ids).logits
    with torch.no_grad():
        first = model(ids[:, :4], use_cache=True)
        second = model(ids[:, 4:], cache_params=first.cache_params)
    first.cache_params.close()
    found = torch.cat([first.logits, second.logits], dim=1)
    assert torch.allclose(found, whole, atol=1e-4)


def refused_ways(model: RemoteModelForCausalLM, session: RemoteCache) -> dict[str, Any]:
    ids, one = some_ids(), some_ids(1)
    embeddings = model.get_input_embeddings()(ids)
    generated(model, one, session=session, max_new_tokens=1)
    right = torch.tensor([[1, 1, 0]])
    return {
        "beams need copies": lambda: generated(model, ids, num_beams=2),
        "guidance_scale 1.5": lambda: generated(model, ids, guidance_scale=1.5),
        "2 row(s) for a session of 1": lambda: generated(model, ids, session=session),
        "a session without ids": lambda: model.generate(inputs_embeds=embeddings, session=session),
        "padded on the right": lambda: generated(model, some_ids(1, 3), attention_mask=right),
        "cannot be saved": lambda: model.save_pretrained("somewhere"),
        "input_ids and inputs_embeds": lambda: model(ids, inputs_embeds=embeddings),
        "a gradient through": lambda: model(inputs_embeds=embeddings[:1], cache_params=session),
        "a prompt without tokens": lambda: generated(model, one[:, :0], session=model.session()),
    }


def test_what_cannot_be_done_is_refused_by_name(model: RemoteModelForCausalLM) -> None:
    with model.session() as session:
        for words, act in refused_ways(model, session).items():
            with pytest.raises(UsageError) as caught:
                act()
            assert words in str(caught.value)
        # None of it has harmed the session.
        assert generated(model, some_ids(1, 2), session=session).shape == (1, 2 + NUM_NEW)


def test_a_closed_session_is_refused(model: RemoteModelForCausalLM) -> None:
    with model.session() as session:
        generated(model, some_ids(1), session=session)
    with pytest.raises(UsageError, match="closed"):
        generated(model, some_ids(1), session=session)
    with pytest.raises(UsageError, match="copies"):
        copy.copy(session).reorder_cache(torch.tensor([0]))


def test_a_peer_that_dies_in_mid_answer_is_replaced(
    online: Online, local: SeshuMambaForCausalLM, tmp_path: Path
) -> None:
    online.host("doomed", Span(0, 4), step_seconds=0.0001)
    ids = some_ids(1, seed=2)
    listener = Listener(9 + 5, lambda: online.kill("doomed"))
    with connected(online, tmp_path) as model, model.session() as session:
        generated(model, ids[:, :1], session=session, max_new_tokens=1)
        assert len(session.peers[0]) == 1
        session.close()
        found = generated(model, ids, streamer=listener)
    assert torch.equal(found, generated(local, ids))


def working(model: RemoteModelForCausalLM) -> int:
    return len(model._thread._working)


def test_an_interruption_cancels_the_step(online: Online, tmp_path: Path) -> None:
    """Ctrl-C while peers hang: at once, nothing goes on behind, and the model serves afterwards."""
    daemons = [online.hosts[name].swarm._p2p._child.pid for name in ("0:2", "2:4")]

    def hang() -> None:
        for daemon in daemons:
            os.kill(daemon, signal.SIGSTOP)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    with connected(online, tmp_path) as model, model.session() as session:
        began = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                generated(model, some_ids(1), session=session, streamer=Listener(12, hang))
            assert time.monotonic() - began < 3.0
            assert working(model) == 0
        finally:
            for daemon in daemons:
                os.kill(daemon, signal.SIGCONT)
        with pytest.raises(UsageError, match="interrupted"):
            generated(model, some_ids(1), session=session)
        assert generated(model, some_ids(1)).shape == (1, 9 + NUM_NEW)


def test_errors_of_the_swarm_are_raised_where_it_was_called(online: Online, tmp_path: Path) -> None:
    with pytest.raises(LinkError):
        RemoteModelForCausalLM.from_pretrained("seshu://nonsense", state_dir=str(tmp_path))
    with connected(online, tmp_path) as model:
        for name in ("0:2", "2:4"):
            online.announce(name, is_draining=True)
        try:
            with pytest.raises(PeerError, match="no reachable peer hosts block 0"):
                generated(model, some_ids(1))
        finally:
            for name in ("0:2", "2:4"):
                online.announce(name)
        assert generated(model, some_ids(1)).shape == (1, 9 + NUM_NEW)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def client_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("seshu-client")]


@pytest.mark.parametrize("how", ["close", "with", "garbage"])
def test_nothing_is_left_behind(online: Online, tmp_path: Path, how: str) -> None:
    before, threads = children(), client_threads()
    model = connected(online, tmp_path)
    assert len(children() - before) == 1 and len(client_threads()) > len(threads)
    generated(model, some_ids(1), max_new_tokens=1)
    if how == "with":
        with model:
            generated(model, some_ids(1), max_new_tokens=1)
    elif how == "close":
        model.close()
    if how == "garbage":
        del model
        gc.collect()
    else:
        with pytest.raises(UsageError, match="is closed"):
            generated(model, some_ids(1))
        model.close()
    assert children() <= before
    assert client_threads() == threads


SCRIPT = """
import signal, sys
import psutil, torch
from seshu_swarm.client.pretrained.model import RemoteModelForCausalLM
model = RemoteModelForCausalLM.from_pretrained(sys.argv[1], state_dir=sys.argv[2], host="127.0.0.1")
ids = torch.tensor([[70, 71, 72]])
try:
    print(psutil.Process().children()[0].pid, flush=True)
    signal.pause()
except KeyboardInterrupt:
    pass
print(model.generate(ids, max_new_tokens=3, do_sample=False, eos_token_id=None).tolist(), flush=True)
"""


def test_a_program_that_is_interrupted_and_never_closes(
    online: Online, local: SeshuMambaForCausalLM, tmp_path: Path
) -> None:
    """Ctrl-C in a terminal reaches the daemon too: it lives as long as the program, and no longer."""
    command = [sys.executable, "-c", SCRIPT, online.link, str(tmp_path)]
    program = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert program.stdout is not None
        daemon = int(program.stdout.readline())
        assert psutil.pid_exists(daemon)
        os.killpg(program.pid, signal.SIGINT)
        said, errors = program.communicate(timeout=30.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
    expected = generated(local, torch.tensor([[70, 71, 72]]), max_new_tokens=3).tolist()
    assert (program.returncode, said.strip(), errors) == (0, str(expected), "")
    assert not psutil.pid_exists(daemon)
