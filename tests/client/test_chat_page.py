"""The chat page in a real browser, before a real gateway over real peers on loopback."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, Route

from seshu_swarm import checkpoints
from seshu_swarm.client.config import ServeConfig
from seshu_swarm.client.gateway.answering import Gateway
from seshu_swarm.client.gateway.keys import KeyRing
from seshu_swarm.client.gateway.models import Models
from seshu_swarm.client.gateway.serve import listen, listening
from seshu_swarm.client.remote.turns import Turn, conversation_ids
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.network.dht import Found
from seshu_swarm.network.link import Link
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import Joined
from seshu_swarm.spans import Span
from tests.browser import Opened, assert_accessible, assert_fits, browser, opened
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID
from tests.online import Online
from tests.samples import run_record

__all__ = ["browser"]

TOKENISER = ByteTokeniser()
LANGUAGES = ("hi", "ta", "ur", "en")
KEY = "a key of twenty-odd characters"
LONG = 300  # bytes: about a second
SECONDS = 30_000  # milliseconds: the machine may be busy
HALVES = {"first": Span(0, 2), "second": Span(2, 4)}


@pytest.fixture(scope="module")
def online(tiny: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Online]:
    """Both halves of the blocks, the second one twice: one of them may be lost."""
    swarm = Online(tmp_path_factory.mktemp("online"), tiny)
    for name, span in HALVES.items():
        swarm.host(name, span)
    swarm.host("spare", Span(2, 4), step_seconds=0.5)
    yield swarm
    swarm.close()


@pytest.fixture(scope="module")
def models(online: Online) -> Models:
    client, owner = online.join("client"), online.identity("coordinator")
    record = run_record(owner, revision=online.tiny.revision, languages=LANGUAGES)
    link = Link(RUN_ID, owner.fingerprint, ())
    found = Found(record, online._swarms[0].peer_id, 0.0)
    return online.run(Models.connect(Joined(client, link, found, online.folder / "client")))


@contextmanager
def serving(online: Online, models: Models, keys: KeyRing | None = None) -> Iterator[str]:
    """The address of a gateway that answers until the block ends."""
    settings = ServeConfig(http_port=0)
    with listening(settings.http_host, 0) as listener:
        stop = Stop()
        gateway = Gateway(settings, models, keys or KeyRing(), stop=stop)
        answering = asyncio.run_coroutine_threadsafe(listen(gateway, listener), online.loop)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            online.loop.call_soon_threadsafe(stop.set)
            answering.result(10)


@pytest.fixture(scope="module")
def url(online: Online, models: Models) -> Iterator[str]:
    with serving(online, models) as address:
        yield address


@pytest.fixture(scope="module")
def chromium(url: str, browser: Browser) -> Browser:
    """Closed before the peers are: its event loop stands in the way of theirs in this thread."""
    return browser


@contextmanager
def at(chromium: Browser, url: str, **options: Any) -> Iterator[Opened]:
    """The page, once it knows its gateway; nothing may be wrong with it at the end."""
    with opened(chromium, **options) as one:
        one.page.set_default_timeout(SECONDS)
        one.page.goto(url)
        one.page.wait_for_selector("body[data-ready]")
        yield one
        assert one.faults == []
        assert one.hosts == {url.removeprefix("http://")}


def ask(page: Page, question: str, *, longest: int = 24, temperature: float = 0.0) -> None:
    page.evaluate("document.getElementById('settings').open = true")
    page.fill("#longest", str(longest))
    page.fill("#temperature", str(temperature))
    page.fill("#question", question)
    page.press("#question", "Enter")


def answered(page: Page, number: int = 1) -> str:
    """The text of a reply, once it is there and what failed before has given way to it."""
    page.wait_for_function(
        "n => document.querySelectorAll('.replied:not([aria-busy])').length === n"
        " && !document.querySelector('.failed')",
        arg=number,
    )
    return page.locator(".replied .text").nth(number - 1).text_content() or ""


def greedy(tiny: TinyCheckpoint, turns: list[Turn], num: int) -> str:
    """What the whole model replies."""
    whole = checkpoints.load_whole(tiny.folder)
    ids = conversation_ids(TOKENISER, turns)
    found = whole.generate_greedy(ids, max_new_tokens=num, stop_ids={TOKENISER.eos_id})
    return TOKENISER.decode(found)


def test_a_reply_is_streamed_and_says_who_carried_it(
    chromium: Browser, url: str, online: Online
) -> None:
    body: dict[str, Any] = {"model": RUN_ID, "temperature": 1.2, "seed": 7, "max_tokens": 40}
    body["messages"] = [{"role": "user", "content": "வணக்கம்\nhello"}]
    expected = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    with at(chromium, url, width=360) as one:
        page = one.page
        page.select_option("#language", "ta")
        page.evaluate("document.getElementById('settings').open = true")
        page.fill("#seed", "7")
        ask(page, "வணக்கம்\nhello", longest=40, temperature=1.2)
        assert answered(page) == expected["choices"][0]["message"]["content"]
        page.click(".carried summary")
        carriers = page.locator(".carriers").text_content() or ""
        chain = expected["choices"][0]["seshu"]["chain"]
        for hop in chain:
            assert f"blocks {hop['blocks']}" in carriers and hop["peer"] in carriers
        assert {hop["peer"] for hop in chain} <= {h.swarm.peer_id for h in online.hosts.values()}
        assert "Carried by 2 peers" in (page.locator(".carried summary").text_content() or "")
        assert page.locator("#spoken").text_content() == answered(page)
        assert_accessible(page)
        assert_fits(page)


def test_a_conversation_goes_on_from_its_file_in_another_tab(
    chromium: Browser, url: str, tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    path = tmp_path / "talk.json"
    with at(chromium, url) as one:
        ask(one.page, "नमस्ते", longest=12)
        first = answered(one.page)
        with one.page.expect_download() as download:
            one.page.click("#suspend")
        download.value.save_as(path)
        assert re.fullmatch(rf"seshu-{RUN_ID}-[\dT-]+\.json", download.value.suggested_filename)
    assert first == greedy(tiny, [Turn("नमस्ते")], 12)
    with at(chromium, url) as one:
        one.page.set_input_files("#file", path)
        one.page.wait_for_selector(".replied")
        assert one.page.locator(".replied .text").text_content() == first
        assert one.page.locator(".asked .text").text_content() == "नमस्ते"
        assert one.page.input_value("#longest") == "12"
        ask(one.page, "और?", longest=12)
        second = answered(one.page, 2)
    assert second == greedy(tiny, [Turn("नमस्ते", first), Turn("और?")], 12)


HOSTILE = "<img src=x onerror=document.title='broken'><script>document.title='broken'</script>"


def talk_file(**fields: Any) -> dict[str, Any]:
    """As the page writes it, but for `fields`."""
    messages = [
        {"role": "user", "content": HOSTILE, "language": "hi"},
        {"role": "assistant", "content": HOSTILE, "language": "hi"}
        | {"model": HOSTILE[:100], "ending": "stop"},
    ]
    facts = {"format": "seshu conversation", "version": 1, "run": RUN_ID, "language": "hi"}
    facts |= {"saved": "2026-01-01T00:00:00.000Z", "messages": messages}
    return facts | {"settings": {"temperature": 0, "seed": 0, "longest": 12}} | fields


def test_a_hostile_file_is_text_or_is_refused(chromium: Browser, url: str, tmp_path: Path) -> None:
    assistant = talk_file()["messages"][1]
    deep = b"[" * 100_000 + b"]" * 100_000
    bad: dict[bytes, str] = {
        b"x" * 2_000_001: "2000001 bytes, at most 2000000",
        b"\xff\xfe": "not JSON",
        deep: "no table",
        json.dumps(talk_file(more=1)).encode(): "no field “more”",
        json.dumps(talk_file(version=2)).encode(): "another program",
        json.dumps(talk_file(run="<b>")).encode(): "no name of a run",
        json.dumps(talk_file(messages=[assistant])).encode(): "message 1",
        json.dumps(talk_file(language='x" onload="')).encode(): "at most 3",
        json.dumps(talk_file(settings={"temperature": 1e9, "seed": 0, "longest": 1})).encode(): (
            "0 to 2"
        ),
        json.dumps(talk_file()).replace('"saved"', '"__proto__"').encode(): "__proto__",
    }
    path = tmp_path / "talk.json"
    with at(chromium, url, scheme="dark") as one:
        for data, words in bad.items():
            path.write_bytes(data)
            one.page.evaluate("document.getElementById('notice').textContent = ''")
            one.page.set_input_files("#file", path)
            one.page.wait_for_function("() => document.getElementById('notice').textContent")
            assert words in (one.page.locator("#notice").text_content() or "")
            assert one.page.locator(".turn").count() == 0
        path.write_text(json.dumps(talk_file()))
        one.page.set_input_files("#file", path)
        one.page.wait_for_selector(".replied")
        assert one.page.locator(".text").all_text_contents() == [HOSTILE, HOSTILE]
        assert one.page.title() == "Seshu" and one.page.locator(".turn img").count() == 0
        assert_accessible(one.page)


def test_what_peers_say_is_text(chromium: Browser, url: str) -> None:
    """A swarm cannot be made to give such ids; a gateway that was taken over could."""
    event = {"kind": "replaced", "lost": HOSTILE, "by": [{"blocks": "0:4", "peer": HOSTILE}]}
    told = {
        "chain": [{"blocks": HOSTILE, "peer": HOSTILE}],
        "events": [event | {"blocks": HOSTILE}],
    }
    choice = {"index": 0, "delta": {"content": HOSTILE}, "finish_reason": "stop", "seshu": told}
    chunk = json.dumps({"model": HOSTILE, "choices": [choice]})

    def answer(route: Route) -> None:
        route.fulfill(body=f"data: {chunk}\n\ndata: [DONE]\n\n", content_type="text/event-stream")

    with at(chromium, url) as one:
        one.page.route("**/v1/chat/completions", answer)
        ask(one.page, HOSTILE)
        assert answered(one.page) == HOSTILE
        one.page.click(".carried summary")
        assert one.page.title() == "Seshu"
        assert one.page.locator("#talk img, #talk script").count() == 0
        assert "<img src=x" in (one.page.locator(".carriers").text_content() or "")


def test_missing_blocks_are_said_with_the_way_out(chromium: Browser, url: str) -> None:
    facts = httpx2.get(f"{url}/chat/about").json() | {"missing_blocks": [2, 3]}
    error = {"code": "PEER_LOST", "message": "no reachable peer hosts block 2"}

    def refuse(route: Route) -> None:
        route.fulfill(status=503, json={"error": error})

    with opened(chromium, width=360) as one:
        page = one.page
        page.route("**/chat/about", lambda route: route.fulfill(json=facts))
        page.route("**/v1/chat/completions", refuse)
        page.goto(url)
        page.wait_for_selector("#notice:not([hidden])")
        ask(page, "x")
        page.wait_for_selector(".failed")
        for place in ("#notice", ".failed"):
            words = page.locator(place).text_content() or ""
            assert "Nobody has blocks 2, 3 of the model now" in words
            assert "python -m seshu_swarm.peer host --join LINK" in words
        assert_accessible(page)
        assert_fits(page)
        page.unroute_all()
        page.click(".failed button")
        answered(page)
        assert page.locator(".failed").count() == 0 and page.locator(".turn").count() == 2


def test_the_page_lets_nothing_else_in(url: str) -> None:
    for path in ("/", "/chat/main.js", "/chat/about"):
        headers = httpx2.get(url + path).headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert "unsafe" not in headers["content-security-policy"]
    for path in ("/chat/__init__.py", "/chat/..%2fserving.py", "/chat/none.js"):
        assert httpx2.get(url + path).status_code == 404


def test_languages_in_their_own_script_and_direction(chromium: Browser, url: str) -> None:
    with at(chromium, url, width=360, scheme="dark") as one:
        page = one.page
        names = page.locator("#language option").all_text_contents()
        assert names == ["हिन्दी", "தமிழ்", "اردو", "English"]
        page.select_option("#language", "ur")
        for id in ("talk", "question", "questions"):
            assert page.get_attribute(f"#{id}", "dir") == "rtl"
            assert page.get_attribute(f"#{id}", "lang") == "ur"
        assert page.evaluate("document.documentElement.lang") == "en", "the page's own words"
        first = page.locator(".chip").first
        assert "اردو" in (first.text_content() or "")
        first.focus()
        page.keyboard.press("Enter")
        assert page.input_value("#question") == "Name of this territory in اردو\nIndia"
        assert page.evaluate("document.activeElement.id") == "question"
        page.keyboard.press("Shift+Enter")
        assert page.input_value("#question").endswith("India\n"), "a new line, nothing was sent"
        page.select_option("#language", "hi")
        assert page.get_attribute("#question", "dir") == "ltr"
        assert_accessible(page)
        assert_fits(page)


def test_a_reply_can_be_stopped(chromium: Browser, url: str) -> None:
    with at(chromium, url) as one:
        ask(one.page, "x", longest=4_000)
        one.page.wait_for_function(
            "() => document.querySelector('.replied .text').textContent.length > 3"
        )
        one.page.keyboard.press("Escape")
        kept = answered(one.page)
        assert 3 < len(kept) < 4_000
        assert "You stopped it here" in (one.page.locator(".foot").text_content() or "")
        assert one.page.evaluate("document.activeElement.id") == "question"
        ask(one.page, "y", longest=2)
        answered(one.page, 2)


def test_a_key_is_asked_for_and_limits_are_said(
    chromium: Browser, online: Online, models: Models, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[key]]\nname = "asha"\nkey = "{KEY}"\nrequests_per_minute = 1\n')
    with serving(online, models, KeyRing.read(keys)) as address, opened(chromium) as one:
        page = one.page
        page.set_default_timeout(SECONDS)
        page.goto(address)
        page.wait_for_selector("dialog[open]")
        assert_accessible(page)
        page.fill("#key-text", "wrong key of many characters")
        page.press("#key-text", "Enter")
        ask(page, "x", longest=2)
        page.wait_for_selector("dialog[open]")
        assert "does not know that key" in (page.locator("#key-why").text_content() or "")
        page.fill("#key-text", KEY)
        page.press("#key-text", "Enter")
        answered(page)
        assert page.locator(".failed").count() == 0, "it was asked again with the key"
        assert page.evaluate("localStorage.length") == 0 and KEY not in page.url
        ask(page, "y", longest=2)
        words = page.locator(".failed").text_content() or ""
        assert re.search(r"questions of this minute\. Try again in \d+ s", words)
        assert page.locator(".failed button").text_content() == "Try again"
        failures = [fault for fault in one.faults if "status of 4" not in fault]
        assert failures == [] and one.hosts == {address.removeprefix("http://")}


def test_a_peer_that_is_lost_in_mid_reply_is_told_and_nothing_is_missing(
    chromium: Browser, url: str, online: Online
) -> None:
    """The last test: the swarm has lost a peer afterwards."""
    lost, spare = online.hosts["second"].swarm.peer_id, online.hosts["spare"].swarm.peer_id
    body: dict[str, Any] = {"model": RUN_ID, "temperature": 1.2, "max_tokens": LONG, "seed": 0}
    body |= {"messages": [{"role": "user", "content": "x"}], "n": 6}
    choices = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()["choices"]
    # One that does not end early; each choice has the next seed.
    undisturbed = next(choice for choice in choices if choice["finish_reason"] == "length")
    with at(chromium, url) as one:
        page = one.page
        page.evaluate("document.getElementById('settings').open = true")
        page.fill("#seed", str(undisturbed["index"]))
        ask(page, "x", longest=LONG, temperature=1.2)
        page.wait_for_function("() => document.querySelector('.replied .text').textContent")
        assert page.locator(".replied[aria-busy]").count() == 1
        online.kill("second")
        page.wait_for_selector(".events li")
        found = answered(page)
        told = page.locator(".events li").all_text_contents()
        page.click(".carried summary")
        assert spare in (page.locator(".carriers").text_content() or "")
        assert_accessible(page)
    assert found == undisturbed["message"]["content"]
    assert len(told) == 1
    assert f"…{lost[-8:]} was lost: …{spare[-8:]} went on with blocks 2:4 after" in told[0]
