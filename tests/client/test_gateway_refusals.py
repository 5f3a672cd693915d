"""What the gateway refuses: each by name, in OpenAI's shape, and the next request is answered."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from seshu_swarm.client.config import ServeConfig
from seshu_swarm.client.gateway.days import StoredDays
from seshu_swarm.client.gateway.keys import Key, KeyRing
from seshu_swarm.client.gateway.serve import listening
from seshu_swarm.errors import PortTakenError, UsageError
from tests.client.gateways import Fleet, Site, start_fleet, until
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID, Loopback

TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": RUN_ID, "prompt": "ab", "max_tokens": 2}
USER = {"role": "user", "content": "ab"}
ENDLESS = {**GOOD, "max_tokens": 4000, "ignore_eos": True, "stream": True}

BAD_FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    (TEXT, {"prompt": None}, "INVALID_VALUE", "prompt"),
    (TEXT, {"prompt": [[1, "a"]]}, "INVALID_VALUE", "prompt"),
    (TEXT, {"prompt": [3, 384]}, "INVALID_VALUE", "prompt"),
    (TEXT, {"prompt": [3, -1]}, "INVALID_VALUE", "prompt"),
    (TEXT, {"prompt": [True]}, "INVALID_VALUE", "prompt"),
    (TEXT, {"prompt": "\ud800"}, "TEXT_NOT_UTF8", "prompt"),
    (TEXT, {"prompt": "x" * 65}, "PROMPT_TOO_LONG", "prompt"),
    (TEXT, {"prompt": ["a", "x" * 65]}, "PROMPT_TOO_LONG", "prompt"),
    (TEXT, {"max_tokens": 4001}, "ANSWER_TOO_LONG", "max_tokens"),
    (TEXT, {"max_tokens": -1}, "INVALID_VALUE", "max_tokens"),
    (TEXT, {"max_tokens": "9"}, "INVALID_VALUE", "max_tokens"),
    (TEXT, {"temperature": 2.1}, "INVALID_VALUE", "temperature"),
    (TEXT, {"temperature": float("nan")}, "INVALID_VALUE", "temperature"),
    (TEXT, {"top_p": 0}, "INVALID_VALUE", "top_p"),
    (TEXT, {"n": 0}, "INVALID_VALUE", "n"),
    (TEXT, {"n": 100, "prompt": ["a", "b"]}, "TOO_MANY_CHOICES", "n"),
    (TEXT, {"stop": [""]}, "INVALID_VALUE", "stop"),
    (TEXT, {"stop": ["a"] * 17}, "INVALID_VALUE", "stop"),
    (TEXT, {"logprobs": 21}, "INVALID_VALUE", "logprobs"),
    (TEXT, {"logprobs": True}, "INVALID_VALUE", "logprobs"),
    (TEXT, {"seed": 2**63}, "INVALID_VALUE", "seed"),
    (TEXT, {"best_of": 2}, "UNSUPPORTED", "best_of"),
    (TEXT, {"presence_penalty": 0.5}, "UNSUPPORTED", "presence_penalty"),
    (TEXT, {"logit_bias": {"5": 3}}, "UNSUPPORTED", "logit_bias"),
    (TEXT, {"tempreature": 1}, "UNKNOWN_FIELD", "tempreature"),
    (TEXT, {"stream_options": {"x": 1}}, "INVALID_VALUE", "stream_options"),
    (TEXT, {"model": "gpt-4"}, "MODEL_UNKNOWN", "model"),
    (TEXT, {"model": f"{RUN_ID}@{'0' * 12}"}, "MODEL_UNKNOWN", "model"),
    (CHAT, {"messages": []}, "INVALID_VALUE", "messages"),
    (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "INVALID_VALUE", "messages"),
    (CHAT, {"messages": [{"role": "assistant", "content": "x"}]}, "INVALID_VALUE", "messages"),
    (CHAT, {"messages": [{"role": "system", "content": "x"}]}, "INVALID_VALUE", "messages"),
    (CHAT, {"messages": [{**USER, "tool_calls": [1]}]}, "UNSUPPORTED", "messages"),
    (
        CHAT,
        {"messages": [{**USER, "content": [{"type": "image_url"}]}]},
        "INVALID_VALUE",
        "messages",
    ),
    (CHAT, {"messages": [{**USER, "content": "\ud800"}]}, "TEXT_NOT_UTF8", "messages"),
    (CHAT, {"max_completion_tokens": 4001}, "ANSWER_TOO_LONG", "max_completion_tokens"),
    (CHAT, {"tools": [{"type": "function"}]}, "UNSUPPORTED", "tools"),
    (CHAT, {"response_format": {"type": "json_object"}}, "UNSUPPORTED", "response_format"),
]

BAD_BYTES = [
    (b"", "MALFORMED_BODY", 400),
    (b"[1]", "MALFORMED_BODY", 400),
    (b'{"model": ', "MALFORMED_BODY", 400),
    (b"\xff\xfe", "MALFORMED_BODY", 400),
    (b"[" * 50_000, "MALFORMED_BODY", 400),
    (b'{"n": ' + b"1" * 5_000 + b"}", "MALFORMED_BODY", 400),
    (b'{"prompt": "' + b"x" * 100_000 + b'"}', "BODY_TOO_LARGE", 413),
    (b"x" * 2_000_000, "BODY_TOO_LARGE", 413),
]


@pytest.fixture(scope="module")
def fleet(loopback: Loopback, tiny: TinyCheckpoint) -> Fleet:
    return start_fleet(loopback, tiny)


def code_of(answer: Any) -> tuple[int, str]:
    """Status and name; the rest of OpenAI's error object is there too."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].startswith(error["code"]) and "Traceback" not in error["message"]
    return answer.status_code, error["code"]


async def is_well(site: Site) -> bool:
    return (await site.post(TEXT, GOOD)).status_code == 200


def test_wrong_fields_are_named(fleet: Fleet) -> None:
    async def ask() -> list[tuple[str, str]]:
        found = []
        async with fleet.serving(max_prompt_tokens=64, max_new_tokens=4000) as site:
            for path, fields, _, _ in BAD_FIELDS:
                base = GOOD if path == TEXT else {"model": RUN_ID, "messages": [USER]}
                data = json.dumps({**base, **fields}).encode()
                headers = {"Content-Type": "application/json"}
                answer = await site.web.post(path, content=data, headers=headers)
                status, code = code_of(answer)
                assert status == (404 if code == "MODEL_UNKNOWN" else 400)
                found.append((code, answer.json()["error"]["param"]))
            assert await is_well(site)
        return found

    found = fleet.loopback.run(ask())
    assert found == [(code, param) for _, _, code, param in BAD_FIELDS]


def test_wrong_bytes_are_named(fleet: Fleet) -> None:
    async def ask() -> list[tuple[str, int]]:
        found = []
        async with fleet.serving(max_body_bytes=64_000) as site:
            headers = {"Content-Type": "application/json"}
            for data, _, _ in BAD_BYTES:
                status, code = code_of(await site.web.post(TEXT, content=data, headers=headers))
                found.append((code, status))
            as_text = await site.web.post(TEXT, content=b"{}")
            assert code_of(as_text) == (415, "CONTENT_TYPE")
            assert code_of(await site.web.get("/v2/x")) == (404, "PATH_UNKNOWN")
            assert code_of(await site.web.get(TEXT)) == (405, "METHOD_NOT_ALLOWED")
            assert await is_well(site)
        return found

    assert fleet.loopback.run(ask()) == [(code, status) for _, code, status in BAD_BYTES]


def test_neutral_fields_of_openai_s_are_taken(fleet: Fleet) -> None:
    extra = {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "best_of": 1}
    extra |= {"user": "someone", "suffix": None}

    async def ask() -> int:
        async with fleet.serving() as site:
            return (await site.post(TEXT, {**GOOD, **extra})).status_code

    assert fleet.loopback.run(ask()) == 200


def key_ring(**limits: int) -> KeyRing:
    digest = hashlib.sha256(b"a-key-of-asha-000001").digest()
    return KeyRing([Key("asha", digest, **limits)])


def test_keys_are_asked_for(fleet: Fleet) -> None:
    async def ask() -> list[tuple[int, str]]:
        found = []
        async with fleet.serving(key_ring()) as site:
            for path in ("/v1/models", "/metrics"):
                found.append(code_of(await site.web.get(path)))
            found.append(code_of(await site.post(TEXT, GOOD)))
            found.append(code_of(await site.post(TEXT, GOOD, Authorization="Basic abc")))
            found.append(code_of(await site.post(TEXT, GOOD, Authorization="Bearer wrong-key")))
            found.append(code_of(await site.post(TEXT, GOOD, Authorization="Bearer " + "x" * 9000)))
            assert (await site.web.get("/health")).status_code == 200
            async with site.openai("a-key-of-asha-000001") as client:
                await client.completions.create(**GOOD)
            async with site.openai("another-key") as client:
                with pytest.raises(openai.AuthenticationError) as refused:
                    await client.completions.create(**GOOD)
                assert refused.value.code == "KEY_UNKNOWN"
        return found

    assert fleet.loopback.run(ask()) == [(401, "KEY_MISSING")] * 4 + [(401, "KEY_UNKNOWN")] * 2


def test_a_key_s_limits_hold(fleet: Fleet) -> None:
    async def ask(limits: dict[str, int], times: int) -> tuple[list[Any], Any]:
        ring = key_ring(**limits)
        async with fleet.serving(ring) as site, site.openai("a-key-of-asha-000001") as client:
            for _ in range(times):
                await client.completions.create(**GOOD, extra_body={"ignore_eos": True})
            with pytest.raises(openai.RateLimitError) as refused:
                await client.completions.create(**GOOD)
        return [refused.value.code, refused.value.type], refused.value.response.headers

    said, headers = fleet.loopback.run(ask({"requests_per_minute": 3}, 3))
    assert said == ["REQUESTS_PER_MINUTE", "rate_limit_error"]
    assert 1 <= int(headers["retry-after"]) <= 60
    said, headers = fleet.loopback.run(ask({"tokens_per_day": 11}, 2))  # 2 + 2 tokens each
    assert said == ["TOKENS_PER_DAY", "rate_limit_error"]
    assert 1 <= int(headers["retry-after"]) <= 86_400


def test_a_gateway_that_was_restarted_gives_no_second_day(fleet: Fleet, tmp_path: Path) -> None:
    async def ask() -> list[str]:
        said = []
        for _ in range(2):
            days, ring = StoredDays(tmp_path / "days"), key_ring(tokens_per_day=11)
            async with (
                fleet.serving(ring, days=days) as site,
                site.openai("a-key-of-asha-000001") as client,
            ):
                try:
                    for _ in range(2):  # 2 + 2 tokens each
                        await client.completions.create(**GOOD, extra_body={"ignore_eos": True})
                except openai.RateLimitError as refused:
                    said.append(refused.message)
        return said

    [said] = fleet.loopback.run(ask())
    assert "TOKENS_PER_DAY" in said and "3 of 11 left" in said


def test_a_full_gateway_says_so(fleet: Fleet) -> None:
    async def ask() -> tuple[tuple[int, str], str]:
        async with fleet.serving(max_sessions=1) as site:
            request = site.web.build_request("POST", TEXT, json=ENDLESS)
            running = await site.web.send(request, stream=True)
            refused = await site.post(TEXT, GOOD)
            await running.aclose()
            await until(lambda: site.gateway.slots.taken == 0)
            assert await is_well(site)
        return code_of(refused), refused.headers["retry-after"]

    assert fleet.loopback.run(ask()) == ((503, "SESSIONS_FULL"), "1")


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_has_a_deadline(fleet: Fleet, stream: bool) -> None:
    async def ask() -> str:
        async with fleet.serving(request_seconds=0.4, max_new_tokens=10**6) as site:
            body = {**ENDLESS, "max_tokens": 10**6, "stream": stream}
            answer = await site.post(TEXT, body)
            await until(lambda: fleet.num_sessions == 0)
        if not stream:
            assert answer.status_code == 504
            return str(answer.json()["error"]["code"])
        *_, last, nothing = answer.text.split("\n\n")
        assert nothing == ""
        return str(json.loads(last.removeprefix("data: "))["error"]["code"])

    assert fleet.loopback.run(ask()) == "REQUEST_DEADLINE"


@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_in_the_swarm_is_named(fleet: Fleet, stream: bool) -> None:
    """Nobody hosts the revision: also a stream, which has not begun, gets a status."""

    async def ask() -> Any:
        async with fleet.serving(revision="e" * 64) as site, site.openai() as client:
            with pytest.raises(openai.InternalServerError) as failed:
                await client.completions.create(**GOOD, stream=stream)
        return failed.value

    failure = fleet.loopback.run(ask())
    assert (failure.status_code, failure.code) == (503, "PEER_LOST")
    assert "no reachable peer hosts block 0" in failure.message


def test_an_unforeseen_failure_is_an_error_in_the_log_only(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> Any:
        async with fleet.serving() as site:
            monkeypatch.setattr(site.gateway.models.current, "embed", lambda ids: 1 / 0)
            return await site.post(TEXT, GOOD)

    answer = fleet.loopback.run(ask())
    assert code_of(answer) == (500, "INTERNAL")
    assert "division" not in answer.text
    assert "ZeroDivisionError" in caplog.text


def test_slow_bodies_hold_nobody_up(fleet: Fleet) -> None:
    """A body that does not come occupies no session; others are answered meanwhile."""

    async def ask() -> bool:
        async with fleet.serving(max_sessions=1) as site:
            host, port = site.url.removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            head = f"POST {TEXT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            await writer.drain()
            well = await is_well(site)
            writer.close()
            await writer.wait_closed()
        return well

    assert fleet.loopback.run(ask())


def test_only_this_machine_may_ask_without_keys() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert ServeConfig(http_host=host).http_host == host
    for host in ("0.0.0.0", "::", "192.168.1.4", "localhost.example"):
        with pytest.raises(UsageError, match="KEYS_REQUIRED"):
            ServeConfig(http_host=host)
        assert ServeConfig(http_host=host, keys="keys.toml").http_host == host
    with pytest.raises(UsageError, match="not positive"):
        ServeConfig(request_seconds=float("nan"))


def test_a_taken_port_is_named() -> None:
    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        taken = pytest.raises(PortTakenError, match=f"port {port}.*--http-port")
        with taken, listening("127.0.0.1", port):
            pass
    foreign = pytest.raises(UsageError, match=r"cannot listen on 203\.0\.113\.7")
    with foreign, listening("203.0.113.7", 0):
        pass
