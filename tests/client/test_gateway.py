"""The gateway by the official client, over real peers: every number against the whole model."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.client.gateway.text import token_text
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.peer.served import ServedSpan
from tests.client.gateways import Fleet, Site, start_fleet, until
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID, Loopback
from tests.samples import span_record

PROMPT = "Q: நலமா?\nA: "
MODEL = RUN_ID
TOKENISER = ByteTokeniser()


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    return start_fleet(loopback, tiny)


def greedy(fleet: Fleet, ids: list[int], num: int) -> list[int]:
    return fleet.whole.generate_greedy(ids, max_new_tokens=num, stop_ids={TOKENISER.eos_id})


def logprobs(fleet: Fleet, ids: list[int]) -> torch.Tensor:
    """(length, vocab_size): row i is about token i + 1."""
    with torch.inference_mode():
        logits = fleet.whole.logits(torch.tensor([ids]))[0]
    return torch.log_softmax(logits.double(), dim=-1)


def test_a_completion_is_the_whole_model_s(fleet: Fleet) -> None:
    ids = TOKENISER.encode(PROMPT)

    async def ask() -> Any:
        async with fleet.serving() as site, site.openai() as client:
            return await client.completions.create(
                model=MODEL, prompt=PROMPT, max_tokens=12, temperature=0, logprobs=3
            )

    answer = fleet.loopback.run(ask())
    expected = greedy(fleet, ids, 12)
    choice = answer.choices[0]
    assert choice.logprobs.tokens == [token_text(token) for token in expected]
    assert choice.text == TOKENISER.decode(expected)
    assert choice.finish_reason == "length" and len(expected) == 12
    rows = logprobs(fleet, ids + expected)[len(ids) - 1 : -1]
    for row, token, found, top in zip(
        rows, expected, choice.logprobs.token_logprobs, choice.logprobs.top_logprobs, strict=True
    ):
        assert found == pytest.approx(float(row[token]), abs=1e-5)
        assert sorted(top.values()) == pytest.approx(sorted(row.topk(3).values.tolist()), abs=1e-5)
        assert max(top, key=top.get) == token_text(token)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), 12)
    assert answer.model == f"{RUN_ID}@{fleet.tiny.revision[:12]}"


@pytest.mark.parametrize("max_tokens", [0, 1])
@pytest.mark.parametrize("as_ids", [False, True], ids=["text", "ids"])
def test_prompts_are_scored_as_evaluation_harnesses_ask(
    fleet: Fleet, max_tokens: int, as_ids: bool
) -> None:
    """echo + logprobs: the sum over a continuation, and whether it is what greedy would say."""
    texts = ["देश भारत", "a", "கடல் blue sea"]
    prompts = [TOKENISER.encode(text) for text in texts]

    async def ask() -> Any:
        async with fleet.serving() as site, site.openai() as client:
            return await client.completions.create(
                model=MODEL,
                prompt=prompts if as_ids else texts,
                max_tokens=max_tokens,
                temperature=0,
                logprobs=1,
                echo=True,
            )

    answer = fleet.loopback.run(ask())
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice, ids, text in zip(answer.choices, prompts, texts, strict=True):
        rows = logprobs(fleet, ids)
        expected = [float(rows[i, token]) for i, token in enumerate(ids[1:])]
        found = choice.logprobs.token_logprobs
        assert found[0] is None and choice.logprobs.top_logprobs[0] is None
        assert found[1 : len(ids)] == pytest.approx(expected, abs=1e-5)
        assert len(found) == len(ids) + max_tokens
        is_greedy = [rows[i].argmax() == token for i, token in enumerate(ids[1:])]
        tops = choice.logprobs.top_logprobs[1 : len(ids)]
        assert [f == max(t.values()) for f, t in zip(found[1:], tops, strict=False)] == is_greedy
        assert choice.text.startswith(text)
        # Where each token's character begins: a byte of a long character points to its beginning.
        offsets = [
            len(bytes(i - 3 for i in ids[:n]).decode(errors="ignore")) for n in range(len(ids))
        ]
        assert choice.logprobs.text_offset[: len(ids)] == offsets


def test_a_long_prompt_is_scored_across_steps(fleet: Fleet) -> None:
    text = "வணக்கம் " * 60  # 1,320 bytes: more than one step
    ids = TOKENISER.encode(text)

    async def ask() -> Any:
        async with fleet.serving() as site, site.openai() as client:
            return await client.completions.create(
                model=MODEL, prompt=text, max_tokens=0, logprobs=0, echo=True
            )

    choice = fleet.loopback.run(ask()).choices[0]
    rows = logprobs(fleet, ids)
    expected = [float(rows[i, token]) for i, token in enumerate(ids[1:])]
    assert choice.logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
    assert choice.text == text


def test_a_stream_is_the_same_text_in_whole_characters(fleet: Fleet) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "max_tokens": 80, "temperature": 1.3}
    asked |= {"seed": 11, "logprobs": 2, "extra_body": {"ignore_eos": True}}

    async def ask() -> tuple[Any, list[Any]]:
        async with fleet.serving() as site, site.openai() as client:
            whole = await client.completions.create(**asked)
            asked["stream_options"] = {"include_usage": True}
            stream = await client.completions.create(**asked, stream=True)
            return whole, [event async for event in stream]

    whole, events = fleet.loopback.run(ask())
    *parts, usage = events
    assert usage.choices == [] and usage.usage.completion_tokens == 80 and not parts[0].usage
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    tokens = [t for p in parts if p.choices[0].logprobs for t in p.choices[0].logprobs.tokens]
    assert tokens == whole.choices[0].logprobs.tokens and len(tokens) == 80
    assert [part.choices[0].finish_reason for part in parts[-2:]] == [None, "length"]
    assert len(parts) > 20


def test_a_chat_follows_the_rows_template(fleet: Fleet) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Name in Hindi"},
        {"role": "user", "content": [{"type": "text", "text": "Japan"}]},
        {"role": "assistant", "content": "जापान", "tool_calls": None},
        {"role": "user", "content": "China"},
    ]
    ids = [*TOKENISER.encode("Q: Name in Hindi\nJapan\nA: जापान"), TOKENISER.eos_id]
    ids += TOKENISER.encode("Q: China\nA: ")

    async def ask() -> tuple[Any, list[Any]]:
        async with fleet.serving() as site, site.openai() as client:
            asked: dict[str, Any] = {"model": MODEL, "messages": messages, "temperature": 0}
            asked |= {"max_completion_tokens": 10, "logprobs": True, "top_logprobs": 2}
            whole = await client.chat.completions.create(**asked)
            stream = await client.chat.completions.create(**asked, stream=True)
            return whole, [event async for event in stream]

    whole, events = fleet.loopback.run(ask())
    expected = greedy(fleet, ids, 10)
    choice = whole.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content == TOKENISER.decode(expected)
    assert [t.token for t in choice.logprobs.content] == [token_text(i) for i in expected]
    for found, token in zip(choice.logprobs.content, expected, strict=True):
        assert found.bytes == ([token - 3] if 3 <= token < 259 else None)
        assert found.logprob == max(top.logprob for top in found.top_logprobs)
    assert whole.usage.prompt_tokens == len(ids)
    deltas = [event.choices[0].delta for event in events]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == choice.message.content
    assert events[-1].choices[0].finish_reason == "length"


def test_an_answer_says_who_carried_it_where_openai_s_clients_do_not_look(fleet: Fleet) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4}

    async def ask() -> tuple[Any, list[Any]]:
        async with fleet.serving() as site, site.openai() as client:
            whole = await client.completions.create(**asked)
            stream = await client.completions.create(**asked, stream=True)
            return whole, [event async for event in stream]

    whole, events = fleet.loopback.run(ask())
    carriers = {host.swarm.peer_id for host in fleet.hosts}
    told = whole.choices[0].model_extra["seshu"]
    assert told["revision"] == fleet.tiny.revision and told["events"] == []
    assert [hop["blocks"] for hop in told["chain"]] == ["0:2", "2:4"]
    assert {hop["peer"] for hop in told["chain"]} <= carriers
    news = [event.choices[0].model_extra.get("seshu") for event in events]
    assert [set(one) for one in news if one] == [{"chain"}, {"revision", "chain", "events"}]
    assert news[0] and news[-1] and news[0]["chain"] == news[-1]["chain"]


def test_choices_are_independent_and_repeatable(fleet: Fleet) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": ["ab", "cd"], "max_tokens": 12, "n": 3}

    async def ask() -> list[list[str]]:
        async with fleet.serving(max_sessions=2) as site, site.openai() as client:
            answers = [
                await client.completions.create(**asked, seed=seed, temperature=t, top_p=p)
                for seed, t, p in ((5, 1.2, 0.9), (5, 1.2, 0.9), (6, 1.2, 0.9), (5, 1.2, 1e-9))
            ]
        return [[choice.text for choice in answer.choices] for answer in answers]

    first, again, other, narrow = fleet.loopback.run(ask())
    assert first == again and first != other
    assert len(set(first[:3])) == len(set(first[3:])) == 3
    # A nucleus of the likeliest token alone is greedy.
    for prompt, texts in (("ab", narrow[:3]), ("cd", narrow[3:])):
        assert set(texts) == {TOKENISER.decode(greedy(fleet, TOKENISER.encode(prompt), 12))}


def test_a_stop_sequence_ends_a_text_before_it(fleet: Fleet) -> None:
    async def ask() -> tuple[str, Any, list[Any]]:
        async with fleet.serving() as site, site.openai() as client:
            asked: dict[str, Any] = {"model": MODEL, "prompt": "x", "max_tokens": 40, "seed": 3}
            asked["extra_body"] = {"ignore_eos": True}
            full = (await client.completions.create(**asked)).choices[0].text
            stop = full[5:7]
            asked |= {"stop": ["never in it", stop]}
            stream = await client.completions.create(**asked, stream=True)
            cut = await client.completions.create(**asked)
            return full, cut, [event async for event in stream]

    full, cut, events = fleet.loopback.run(ask())
    expected = full[: full.index(full[5:7])]
    assert cut.choices[0].text == expected and cut.choices[0].finish_reason == "stop"
    assert "".join(event.choices[0].text for event in events) == expected
    assert cut.usage.completion_tokens < 40


def test_what_there_is(fleet: Fleet) -> None:
    async def ask() -> tuple[list[Any], Any, Any, str]:
        async with fleet.serving() as site, site.openai() as client:
            models = [model async for model in client.models.list()]
            await client.completions.create(model=models[1].id, prompt="abc", max_tokens=2)
            one = await client.models.retrieve(RUN_ID)
            health = (await site.web.get("/health")).json()
            return models, one, health, (await site.web.get("/metrics")).text

    models, one, health, metrics = fleet.loopback.run(ask())
    assert [model.id for model in models] == [RUN_ID, f"{RUN_ID}@{fleet.tiny.revision[:12]}"]
    assert one.id == RUN_ID and one.revision == fleet.tiny.revision
    assert health["status"] == "ok" and health["sessions"] == 0
    lines = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[0] != "#")
    name = "seshu_gateway_"
    assert lines[f'{name}requests_total{{route="/v1/completions",status="200"}}'] == "1.0"
    assert lines[f"{name}prompt_tokens_total"] == "3.0"
    assert float(lines[f"{name}completion_tokens_total"]) <= 2.0
    assert lines[f"{name}first_token_seconds_count"] in ("0.0", "1.0")
    assert lines[f"{name}sessions"] == lines[f"{name}recoveries_total"] == "0.0"


def test_sessions_side_by_side_do_not_mix(fleet: Fleet) -> None:
    prompts = [f"Q: {word}\nA: " for word in ("one", "two", "three", "four", "five", "six")]

    async def ask() -> list[str]:
        async with fleet.serving() as site, site.openai() as client:
            answers = await asyncio.gather(
                *(
                    client.completions.create(
                        model=MODEL, prompt=prompt, max_tokens=15, temperature=0
                    )
                    for prompt in prompts
                )
            )
        return [answer.choices[0].text for answer in answers]

    found = fleet.loopback.run(ask())
    expected = [TOKENISER.decode(greedy(fleet, TOKENISER.encode(prompt), 15)) for prompt in prompts]
    assert found == expected
    fleet.loopback.run(until(lambda: fleet.num_sessions == 0))


def test_events_are_as_the_standard_says(fleet: Fleet) -> None:
    async def ask() -> tuple[Any, list[str]]:
        async with fleet.serving() as site:
            body = {"model": MODEL, "prompt": "ab", "max_tokens": 3, "stream": True}
            answer = await site.post("/v1/completions", body)
            return answer, answer.text.split("\n\n")

    answer, events = fleet.loopback.run(ask())
    assert answer.headers["content-type"].startswith("text/event-stream")
    *parts, done, nothing = events
    assert (done, nothing) == ("data: [DONE]", "")
    assert all(json.loads(part.removeprefix("data: "))["id"].startswith("cmpl-") for part in parts)


def test_a_site_ends_with_requests_under_way(fleet: Fleet) -> None:
    async def ask() -> list[str]:
        async with fleet.serving() as site:
            answer = await _long_stream(site)
            site.gateway.stop.set()
            data: bytes = await answer.aread()
            await answer.aclose()
        return data.decode().split("\n\n")

    *_, last, nothing = fleet.loopback.run(ask())
    assert nothing == "" and json.loads(last.removeprefix("data: "))["error"]["code"] == "STOPPING"
    fleet.loopback.run(until(lambda: fleet.num_sessions == 0))


async def _long_stream(site: Site) -> Any:
    """A stream of which the first event has come."""
    body = {"model": MODEL, "prompt": "ab", "max_tokens": 4000, "stream": True, "ignore_eos": True}
    request = site.web.build_request("POST", "/v1/completions", json=body)
    answer = await site.web.send(request, stream=True)
    assert answer.status_code == 200
    return answer


def test_a_client_that_leaves_stops_the_work(fleet: Fleet) -> None:
    """In the middle of a stream, and while it waits for a whole answer."""

    async def ask() -> tuple[float, float]:
        async with fleet.serving() as site:
            counted = site.gateway.metrics.completion_tokens
            answer = await _long_stream(site)
            await answer.aclose()
            await until(lambda: fleet.num_sessions == 0 and site.gateway.slots.taken == 0)
            after = counted._value.get()
            body = {"model": MODEL, "prompt": "ab", "max_tokens": 4000, "ignore_eos": True}
            waiting = asyncio.create_task(site.post("/v1/completions", body))
            await until(lambda: counted._value.get() > after + 5)
            waiting.cancel()
            await until(lambda: fleet.num_sessions == 0 and site.gateway.slots.taken == 0)
            left = site.gateway.metrics.cancelled._value.get()
            return counted._value.get(), left

    num_tokens, left = fleet.loopback.run(ask())
    assert num_tokens < 2000
    assert left == 2


def test_a_new_revision_answers_new_requests_once_it_is_hosted(
    fleet: Fleet, tmp_path: Path
) -> None:
    """First nobody hosts the announced revision; then everybody does, and its ends are at hand."""
    newer = checkpoints.save_checkpoint(
        tmp_path / "newer",
        shape=fleet.whole.shape,
        tensors=fleet.whole.checkpoint_tensors(),
        about={"parent": fleet.tiny.revision, "round": 1},
        card="The same weights again.\n",
    )
    shutil.copytree(tmp_path / "newer", fleet.joined().package_folder(newer))

    async def roll() -> list[str]:
        async with fleet.serving() as site:
            models = site.gateway.models
            names = [models.name]
            record = fleet.joined().run.model_copy(update={"revision": newer, "round_index": 1})
            assert await fleet.client.announce(record)
            await models.refresh()
            names.append(models.name)
            for host in fleet.hosts:
                host.service.load(ServedSpan.load(tmp_path / "newer", newer, host.span))
                both = (fleet.tiny.revision, newer)
                span = span_record(host.span.start, host.span.end, newer, revisions=both)
                assert await host.swarm.announce(span)
            await models.refresh()
            names.append(models.name)
            async with site.openai() as client:
                answer = await client.completions.create(
                    model=MODEL, prompt="ab", max_tokens=3, temperature=0
                )
            names.append(answer.model)
            health = await site.web.get("/health")
            assert (health.status_code, health.json()["missing_blocks"]) == (200, [])
        return names

    old, new = (f"{RUN_ID}@{digest[:12]}" for digest in (fleet.tiny.revision, newer))
    assert fleet.loopback.run(roll()) == [old, old, new, new]
