"""The dashboard's pages: hostile values are text or nothing, numbers are those of the snapshot."""

from __future__ import annotations

import asyncio
import gzip
import html.parser
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from seshu_swarm.bench.dashboard.world import snapshot as made_up
from seshu_swarm.dashboard import address, coverage, texts
from seshu_swarm.dashboard.app import build
from seshu_swarm.dashboard.board import Board
from seshu_swarm.dashboard.languages import language_of
from seshu_swarm.dashboard.pages import Pages
from seshu_swarm.dashboard.snapshot import File, Peer, Snapshot
from seshu_swarm.errors import SeshuError, UsageError

NOW = 1_790_000_000.0
SMALL = made_up(num_peers=12, num_rounds=4, now=NOW)
SCRIPT = "<script>alert(1)</script>"
HOSTILE = (
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "x" * 10_000_000,
    "a\u202eb\u2066c",
    "n\x00\x1b[2J",
)


class Seen(html.parser.HTMLParser):
    """Elements and attributes of a page as a browser takes them, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [str(v) for name, v in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def with_text(text: str) -> Snapshot:
    """The small run with `text` wherever a stranger or a file could have put it."""
    peer = replace(SMALL.peers[0], peer_id=text, state=text, limits=text)  # type: ignore[index]
    verdict = replace(
        SMALL.rounds[0].verdicts[0], digest=text, reason=text, next_step=text, language=text
    )
    change = replace(SMALL.rounds[0].changes[0], language=text)
    first = replace(SMALL.rounds[0], reason=text, state=text, verdicts=(verdict,))
    second = replace(SMALL.rounds[1], state="published", revision=text, changes=(change,))
    files = (File(name=text[:150], size_bytes=1, digest=text),)
    checkpoint = replace(SMALL.checkpoints[0], revision="ab", kind=text, hub=text, files=files)
    withdrawn = replace(SMALL.checkpoints[0], revision=text, withdrawn=text)
    return replace(
        SMALL,
        source=text,
        run=replace(
            SMALL.run, run_id=text, licence=text, round_state=text, languages=(text,), link=text
        ),
        peers=(peer, *(SMALL.peers or ())),
        rounds=(first, second, *SMALL.rounds[2:]),
        donors=(replace(SMALL.donors[0], peer_id=text),),
        checkpoints=(checkpoint, withdrawn),
    )


@pytest.mark.parametrize(
    "text", HOSTILE, ids=("script", "attribute", "10 MB", "direction", "control")
)
def test_a_stranger_s_text_is_shown_as_text_or_not_at_all(text: str) -> None:
    pages, plain = Pages.of(with_text(text)), Pages.of(SMALL)
    expected = Seen(plain.whole().data.decode())
    for body in (pages.whole(), pages.round(1), pages.round(2), pages.checkpoint("ab")):
        assert body is not None
        shown = Seen(body.data.decode())
        assert "img" not in shown.tags and "onerror" not in shown.names
        assert not re.search("[\x00\x1b\u202e\u2066]", shown.text)
        assert len(body.data) < 200_000
        assert all(link.startswith(("/", "#")) for link in shown.links)
    whole = Seen(pages.whole().data.decode())
    assert whole.tags <= expected.tags and whole.names <= expected.names
    assert texts.plain(text)[:20] in whole.text


def test_every_peer_round_and_language_is_on_the_page() -> None:
    shown = Seen(Pages.of(SMALL).whole().data.decode()).text
    assert SMALL.peers and all(peer.peer_id[-8:] in shown for peer in SMALL.peers)
    newest = SMALL.rounds[-1]
    assert f"{newest.num_accepted} of {newest.num_adapters}" in shown
    assert "हिन्दी" in shown and "தமிழ்" in shown and "বাংলা" in shown
    published = [one for one in SMALL.rounds if one.changes]
    hindi = [c for one in published for c in one.changes if c.language == "hi"]
    assert texts.signed(sum(c.after - c.before for c in hindi)) in shown
    assert f"{hindi[-1].after:.4f}" in shown and texts.signed(hindi[-1].high) in shown
    assert SMALL.run.link.split("&")[0] in shown
    # The chart's axis names blocks in full.
    assert ">22</text>" in Pages.of(SMALL).whole().data.decode()


def test_numbers_that_no_chart_can_show_break_none() -> None:
    assert SMALL.training is not None
    curve = ((0, 4.0), (1, float("nan")), (2, float("inf")), (3, 1e300), (10**30, 3.0), (4, 3.5))
    page = Pages.of(replace(SMALL, training=replace(SMALL.training, curve=curve))).whole()
    (path,) = re.findall('serie-0 color-0"><path d="([^"]+)"', page.data.decode())[:1]
    assert len(re.findall(r"\d+\.\d \d+\.\d", path)) == 2


def test_a_link_that_would_run_a_command_is_not_offered() -> None:
    key = "ab" * 32
    for evil in (
        "seshu://x; rm -rf ~",
        f"seshu://x?key={key}&peer=/ip4/1.2.3.4/tcp/1/p2p/Qm'; rm -rf ~'",
    ):
        page = Pages.of(replace(SMALL, run=replace(SMALL.run, link=evil))).whole().data.decode()
        assert "rm -rf" not in page
    quoted = f"seshu://x?key={key}&peer=/ip4/$(reboot)'/tcp/1/p2p/Qm"
    seen = Seen(Pages.of(replace(SMALL, run=replace(SMALL.run, link=quoted))).whole().data.decode())
    # `shlex` says what a shell would make of what is copied: one argument, and nothing is carried out.
    command = next(line for line in seen.text.splitlines() if "seshu_swarm.peer --join" in line)
    assert len(shlex.split(command)) == 5


def test_who_holds_what() -> None:
    def peer(start: int, end: int, seconds: float, **more: object) -> Peer:
        facts = {"peer_id": f"{start}-{end}", "start": start, "end": end, "revisions": ()}
        facts |= {"num_sessions": 0, "step_seconds": seconds, "heard_at": NOW, "state": "serving"}
        return Peer(**(facts | more))  # type: ignore[arg-type]

    peers = [peer(0, 4, 0.4), peer(2, 6, 0.2), peer(4, 8, 0.1), peer(5, 8, 0.3, state="leaving")]
    assert coverage.holders(peers, 8) == (1, 1, 2, 2, 2, 2, 1, 1)
    # A chain goes on where a peer's span ends: 0.4 s for blocks 0 to 3, 0.1 s for the others.
    assert coverage.tokens_per_second(peers, 8) == pytest.approx(1 / 0.5)
    # From block 2 on the second peer; the third for what is left, half of its 0.1 s.
    quicker = [peer(0, 2, 0.02), *peers]
    assert coverage.tokens_per_second(quicker, 8) == pytest.approx(1 / (0.02 + 0.2 + 0.05))
    assert coverage.tokens_per_second(peers[1:], 8) is None
    assert coverage.ranges([0, 1, 2, 7]) == "0–2, 7"
    found = coverage.map_of([*peers, peer(900, 990, 0.1), peer(0, 10**9, 0.1)], 100, NOW + 20)
    assert found.blocks_per_column == 3 and found.num_columns == 34
    assert all(r.before + r.held + r.after == 34 and r.freshness == "late" for r in found.rows)
    assert len(found.rows) == 5


def test_units() -> None:
    assert texts.bytes_(1_234_567) == "1.2 MB" and texts.bytes_(999) == "999 B"
    assert texts.count(31_248_640) == "31.2 M" and texts.count(9_999) == "9,999"
    assert texts.duration(7_300) == "2 h" and texts.duration(float("inf")) == "–"
    assert (
        texts.moment(1_790_000_000) == "2026-09-21 14:13 UTC" and texts.moment(float("nan")) == "–"
    )
    assert texts.signed(-0.00123) == "−0.0012"
    assert language_of("ta").own == "தமிழ்" and language_of("../../etc").own == "../../etc"


def test_addresses() -> None:
    assert address.parse("[::1]:0") == ("::1", 0)
    for wrong in ("8080", "127.0.0.1", "127.0.0.1:99999", "a b:1", ":1"):
        with pytest.raises(UsageError):
            address.parse(wrong)


class Told:
    """A source that says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.asked = folder, SMALL, 0
        self.broken = False

    async def snapshot(self) -> Snapshot:
        self.asked += 1
        if self.broken:
            raise SeshuError("the swarm is away")
        return self.now

    def file(self, revision: str, name: str) -> Path | None:
        return self.folder / name


def test_answers(tmp_path: Path) -> None:
    name = SMALL.checkpoints[0].files[0].name
    (tmp_path / name).write_bytes(b"weights")
    (tmp_path / "secret").write_bytes(b"secret")
    revision = SMALL.checkpoints[0].revision
    with TestClient(build(Board(Told(tmp_path)))) as client:
        whole = client.get("/")
        policy = whole.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert whole.headers["referrer-policy"] == "no-referrer"
        assert client.get("/", headers={"if-none-match": whole.headers["etag"]}).status_code == 304
        versions = client.get("/versions").json()
        assert set(versions) == set(re.findall('data-part="([a-z]+)"', whole.text)) | {"at"}
        assert client.get("/parts/rounds").text in whole.text
        assert client.get(f"/checkpoints/{revision}/{name}").content == b"weights"
        for path in (
            "/parts/x",
            "/rounds/99",
            "/rounds/٣",
            "/rounds/" + "9" * 5_000,
            "/x",
            "/docs",
        ):
            assert client.get(path).status_code == 404
        for path in (f"/checkpoints/{revision}/secret", f"/checkpoints/{revision}/..%2fsecret"):
            assert client.get(path).status_code == 404
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert client.request(method, "/").status_code == 405


def test_a_source_is_asked_once_for_all_and_may_fail(tmp_path: Path) -> None:
    source, now = Told(tmp_path), [0.0]

    async def looks() -> None:
        board = Board(source, refresh_seconds=5, clock=lambda: now[0])
        first = await asyncio.gather(*(board.pages() for _ in range(20)))
        assert source.asked == 1 and len(set(map(id, first))) == 1
        source.broken, now[0] = True, 6.0
        assert await board.pages() is first[0] and source.asked == 2
        source.broken, now[0] = False, 12.0
        source.now = replace(SMALL, donors=())
        fresh = await board.pages()
        assert gzip.decompress(fresh.part("donors").compressed) == fresh.part("donors").data  # type: ignore[union-attr]
        changed = [n for n in fresh.sections if fresh.sections[n] != first[0].sections[n]]
        assert changed == ["donors"]
        nothing = Told(tmp_path)
        nothing.broken = True
        with pytest.raises(SeshuError):
            await Board(nothing).pages()

    asyncio.run(looks())
