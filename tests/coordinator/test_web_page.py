"""The dashboard in a real browser, served by the real command from a real run's folder."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, expect

from seshu_swarm.coordinator.web.watching import FACT
from tests.browser import SCHEMES, WIDTHS, assert_accessible, assert_fits, browser, opened
from tests.coordinator.released_run import Released
from tests.swarms import Processes, RoleProcess

__all__ = ["browser"]
pytestmark = pytest.mark.swarm

PEER = {"start": 0, "end": 1, "revisions": (), "num_sessions": 2, "step_seconds": 0.004}
LINK = f"seshu://indic?key={'ab' * 32}&peer=/ip4/127.0.0.1/tcp/4001/p2p/QmPeer"


@dataclass
class Site:
    """The command, its address, and the run it reads."""

    released: Released
    processes: Processes
    port: int
    process: RoleProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        where = ("--state-dir", str(self.released.run.path), "--web", f"127.0.0.1:{self.port}")
        self.process = self.processes.start("seshu_swarm.coordinator", "dashboard", *where)
        assert self.process.wait_for("web", seconds=60)["url"] == self.url

    def stop(self) -> None:
        assert self.process is not None
        self.process.process.send_signal(signal.SIGINT)
        self.process.wait(seconds=10)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("page")
    released = Released.opened(folder / "run")
    released.publish(seed=1)
    released.abort()
    released.publish(seed=2)
    hostile = "<b onmouseover=alert(1)>on battery"
    peers = [{**PEER, "peer_id": "QmHonest", "heard_at": 0.0, "state": "serving"}]
    peers += [{**PEER, "peer_id": "QmHostile", "heard_at": 9e9, "state": hostile}]
    released.ledger.set_fact(FACT, {"at": 0.0, "link": LINK, "peers": peers})
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = int(probe.getsockname()[1])
    with Processes(folder / "processes") as processes:
        found = Site(released, processes, port)
        found.start()
        yield found


def test_it_opens_at_every_width_in_light_and_dark(browser: Browser, site: Site) -> None:
    for number, width in enumerate(WIDTHS):
        with opened(browser, width=width, scheme=SCHEMES[number % 2]) as one:
            one.page.goto(site.url)
            expect(one.page.get_by_role("status")).to_have_text("Live.")
            expect(one.page.get_by_role("heading", level=1)).to_have_text("indic")
            assert_accessible(one.page)
            assert_fits(one.page)
            one.page.get_by_role("link", name="2", exact=True).last.click()
            expect(one.page.get_by_role("heading", level=1)).to_contain_text("Round")
            if width == min(WIDTHS):
                assert_accessible(one.page)
            assert_fits(one.page)
            assert (
                one.page.evaluate("document.querySelectorAll('[onmouseover], main script').length")
                == 0
            )
            assert one.faults == []
            assert one.hosts == {f"127.0.0.1:{site.port}"}


def test_the_keyboard_reaches_the_copy_button_and_copies(browser: Browser, site: Site) -> None:
    with opened(browser) as one:
        one.page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
        one.page.goto(site.url)
        expect(one.page.get_by_role("status")).to_have_text("Live.")
        one.page.keyboard.press("Tab")
        assert one.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        for _ in range(30):
            one.page.keyboard.press("Tab")
            if one.page.evaluate("document.activeElement.dataset.copy"):
                break
        one.page.keyboard.press("Enter")
        expect(one.page.locator("#copy-donor")).to_contain_text("Copied")
        copied = one.page.evaluate("navigator.clipboard.readText()")
        assert copied == f"python -m seshu_swarm.peer --join '{LINK}'"


def test_it_says_that_it_lost_the_server_and_comes_back_by_itself(
    browser: Browser, site: Site
) -> None:
    with opened(browser) as one:
        one.page.clock.install()
        one.page.goto(site.url)
        status = one.page.get_by_role("status")
        expect(status).to_have_text("Live.")
        rounds = one.page.locator("#rounds-table tbody tr")
        expect(rounds).to_have_count(3)
        one.page.locator("#round-2").focus()
        site.stop()
        one.page.clock.run_for(6_000)
        expect(status).to_have_text("Connection lost, trying again …")
        site.released.abort()
        site.start()
        one.page.clock.run_for(6_000)
        expect(status).to_have_text("Live.", timeout=10_000)
        # What has changed meanwhile is there, and the focus is where it was.
        expect(rounds).to_have_count(4)
        assert one.page.evaluate("document.activeElement.id") == "round-2"


def test_it_is_all_there_without_script(browser: Browser, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url)
    expect(page.locator("svg")).to_have_count(3)
    expect(page.locator(".map tbody tr")).to_have_count(2)
    expect(page.get_by_role("button")).to_have_count(0)
    context.close()
