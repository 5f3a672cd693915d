"""Releases: papers beside a checkpoint, and both on a Hub on 127.0.0.1, pushed and read back by
processes of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from seshu_swarm import packages
from seshu_swarm.checkpoints import load_whole
from seshu_swarm.coordinator.releasing import mirror
from seshu_swarm.coordinator.releasing.card import cell
from seshu_swarm.coordinator.releasing.data import SAMANANTAR, notes_of
from seshu_swarm.coordinator.releasing.names import CARD, DATA, PAPERS, TABLE, VERDICTS
from seshu_swarm.coordinator.releasing.release import Releases, pushed
from seshu_swarm.coordinator.releasing.withdrawn import tag_of
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.lineage import Kind, Lineage, Revision
from seshu_swarm.data.holdout import Holdout
from seshu_swarm.data.text import Row
from seshu_swarm.errors import ForkError, SeshuError
from seshu_swarm.program.running import Stop
from tests import stock
from tests.coordinator.released_run import LANGUAGES, OWNER, Released
from tests.stores import hub_server
from tests.stores.hub_server import TOKEN, HubServer
from tests.swarms import Fault, Processes, inject

NAME = "seshu/indic"
DEADLINE_SECONDS = 90.0


@pytest.fixture
def released(tmp_path: Path) -> Released:
    torch.set_num_threads(1)
    return Released.opened(tmp_path / "run")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that processes started from here find, and nothing else."""
    server = HubServer(tmp_path / "hub")
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    switches = ("DISABLE_XET", "DISABLE_TELEMETRY", "DISABLE_PROGRESS_BARS")
    ours = {f"HF_HUB_{name}": "1" for name in switches}
    ours |= {"HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf_home")}
    # Threads that wait for work would cost more than the tiny model's.
    ours |= {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1,localhost"}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    # The tiny model's shards go the way that large ones go.
    monkeypatch.setattr(hub_server, "LFS_FROM_BYTES", 1_000)
    yield server
    server.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await work

    return asyncio.run(limited())


def release(released: Released, *, repository: str | None = None) -> None:
    run(Releases(released.run, released.ledger, repository=repository).release())


def push(released: Released) -> None:
    async def both() -> None:
        releases = Releases(released.run, released.ledger, repository=NAME)
        await releases.release()
        await releases.push_all(NAME)

    run(both())


def revoke(released: Released, *, parent: str, withdrawn: list[str]) -> str:
    """What `revoke` leaves behind, as far as releases read it; the new head."""
    about: dict[str, object] = {"parent": parent, "revoked": ["01" * 32]}
    revision = released.checkpoint(seed=9, about=about)
    (released.run.package(revision) / CARD).write_text("# After a revocation\n")
    line = Lineage(released.ledger.database)
    for one in withdrawn:
        line.withdraw(one, f"it holds {'01' * 32}")
    line.add(revision, parent=parent, kind=Kind.REVOCATION)
    return revision


def papers(released: Released, revision: str) -> dict[str, bytes]:
    return {name: (released.run.package(revision) / name).read_bytes() for name in PAPERS}


def header(card: bytes) -> dict[str, Any]:
    """The front matter as the Hub's own library reads it."""
    from huggingface_hub import ModelCard

    found: dict[str, Any] = ModelCard(card.decode()).data.to_dict()
    return found


def test_papers_lie_beside_the_checkpoint_and_are_no_part_of_its_digest(
    released: Released,
) -> None:
    revision = released.publish(seed=1)
    release(released)
    packages.verify(released.run.package(revision), revision)
    first = papers(released, revision)
    release(released)
    assert papers(released, revision) == first
    assert (released.run.path / TABLE).read_bytes() == first[TABLE]
    assert (released.run.path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not [name for name, data in first.items() if OWNER.encode() in data]


def test_the_curves_go_on_after_a_round_that_published_nothing(released: Released) -> None:
    one = released.publish(seed=1)
    release(released)
    released.abort()
    release(released)
    two = released.publish(seed=2)
    release(released)
    table = json.loads((released.run.path / TABLE).read_bytes())
    assert [r["state"] for r in table["rounds"]] == ["published", "aborted", "published"]
    steps = table["languages"]["hi"]["steps"]
    assert [(s["since"], s["round"]) for s in steps] == [(0, 1), (1, 3)]
    # What was released with the first round still says what was known then.
    assert len(json.loads(papers(released, one)[TABLE])["rounds"]) == 1
    assert len(json.loads(papers(released, two)[TABLE])["rounds"]) == 3


def test_papers_that_a_kill_prevented_are_written_with_the_next_round(released: Released) -> None:
    one = released.publish(seed=1)
    released.publish(seed=2)
    assert not (released.run.package(one) / DATA).exists()
    release(released)
    assert len(json.loads(papers(released, one)[TABLE])["rounds"]) == 1


def test_papers_that_cannot_be_written_do_not_end_the_run(
    released: Released, capsys: pytest.CaptureFixture[str]
) -> None:
    revision = released.publish(seed=1)
    report = released.run.report(1)
    whole = report.read_bytes()
    report.write_bytes(whole[:100])
    release(released)
    assert "papers not written" in capsys.readouterr().out
    assert not (released.run.package(revision) / DATA).exists()
    report.write_bytes(whole)
    release(released)
    assert (released.run.package(revision) / DATA).exists()


def test_the_card_s_header_is_one_that_the_hub_reads(released: Released) -> None:
    one = released.publish(seed=1)
    release(released, repository=NAME)
    found = header(papers(released, one)[CARD])
    assert found["language"] == list(LANGUAGES)
    assert found["license"] == "cc-by-4.0" and found["library_name"] == "transformers"
    assert found["pipeline_tag"] == "text-generation" and "merge" in found["tags"]
    # The base is not on the Hub; the first round is.
    assert "base_model" not in found
    two = released.publish(seed=2)
    release(released, repository=NAME)
    found = header(papers(released, two)[CARD])
    assert found["base_model"] == NAME and found["base_model_relation"] == "merge"
    assert found["base_model_revision"] == "round-1"


def test_a_licence_that_the_hub_does_not_know_is_named(tmp_path: Path) -> None:
    released = Released.opened(tmp_path / "other", licence='Ours: "no: 1"')
    revision = released.publish(seed=1)
    release(released)
    found = header(papers(released, revision)[CARD])
    assert found["license"] == "other" and found["license_name"] == 'Ours: "no: 1"'


def test_the_card_says_how_it_was_made_and_what_it_cannot_promise(released: Released) -> None:
    parent = released.ledger.fact("revision")
    revision = released.publish(seed=1)
    release(released, repository=NAME)
    card = papers(released, revision)[CARD].decode()
    assert f"revision `{revision}`" in card and f"parent `{parent}`" in card
    assert "`ties` (density = 0.2) with\nλ = 0.5" in card and f"| `{'01' * 32}` | 1.0000 |" in card
    assert "| hi | 2.0000 | 1.9000 | -0.1000 | " in card and "| 40 |" in card
    assert "![Bits per byte of every language over the rounds](curves.png)" in card
    assert 'from_pretrained("seshu/indic", revision="round-1")' in card
    assert "Nothing here proves the absence of a backdoor." in card
    assert "1,234 rows of `hi`" in card


def test_what_a_stranger_wrote_cannot_leave_its_cell(released: Released) -> None:
    revision = released.publish(seed=1)
    release(released)
    card = papers(released, revision)[CARD].decode()
    [row] = [line for line in card.splitlines() if "NORM" in line]
    assert row.replace(r"\|", "").count("|") == 6
    assert "<script>" not in card and r"\[x\](http:&#47;&#47;evil)" in row
    assert cell("a\n\n|b " + "x" * 500).startswith(r"a \|b xxx") and len(cell("y" * 500)) == 200


def test_the_data_manifest_pins_what_it_names(released: Released) -> None:
    revision = released.publish(seed=1, licence="CC-BY-NC-4.0")
    release(released)
    data = json.loads(papers(released, revision)[DATA])
    catalogue = released.run.package(data["catalogue"]["digest"])
    for name, entry in data["catalogue"]["files"].items():
        assert hashlib.sha256((catalogue / name).read_bytes()).hexdigest() == entry["sha256"]
    assert set(data["catalogue"]["files"]) == {"hi-000.jsonl", "ta-000.jsonl"}
    [adapter] = data["adapters"]
    assert adapter["digest"] == "01" * 32 and adapter["licence"] == "CC-BY-NC-4.0"
    assert [held["name"] for held in data["hold_outs"]] == ["final-1", "gate-1", "tuning-1"]
    assert {len(held["commitment"]) for held in data["hold_outs"]} == {64}
    assert data["notes"] == [
        "CC-BY-NC-4.0 is declared for a part of the data: it forbids commercial use."
    ]
    # What was merged once is in the weights of every later round.
    released.abort()
    later = released.publish(seed=2)
    release(released)
    assert json.loads(papers(released, later)[DATA])["notes"] == data["notes"]
    verdicts = json.loads(papers(released, revision)[VERDICTS])["adapters"]
    assert {v["accepted"] for v in verdicts} == {True, False}
    assert not [v for v in verdicts if "owner" in v]


def test_sets_that_are_drawn_or_retired_later_change_no_paper(released: Released) -> None:
    one = released.publish(seed=1)
    release(released)
    first = papers(released, one)
    sets = HoldOuts(released.run, released.ledger.database)
    for role in Role:
        sets.add(role, Holdout(rows={"hi": (Row("translate", "two", "तीन", "hi"),)}, documents={}))
        sets.retire(f"{role}-1")
    (released.run.package(one) / DATA).unlink()
    release(released)
    assert papers(released, one) == first
    two = released.publish(seed=2)
    release(released)
    names = [held["name"] for held in json.loads(papers(released, two)[DATA])["hold_outs"]]
    assert sorted(names) == ["final-2", "gate-2", "tuning-2"]


def without(report: dict[str, Any], key: str) -> bytes:
    return json.dumps({name: value for name, value in report.items() if name != key}).encode()


@pytest.mark.parametrize(
    "broken",
    [
        lambda report: None,
        lambda report: b"{}",
        lambda report: b"[]",
        lambda report: b"\xff",
        lambda report: json.dumps(report).encode()[:100],
        lambda report: json.dumps(report | {"state": "aborted"}).encode(),
        lambda report: json.dumps(report | {"languages": {"hi": {"before": 1.0}}}).encode(),
        *(
            partial(without, key=key)
            for key in ("round", "state", "revision", "recipe", "adapters")
        ),
    ],
)
def test_a_release_without_a_readable_report_is_named_and_stays(
    released: Released,
    capsys: pytest.CaptureFixture[str],
    broken: Callable[[dict[str, Any]], bytes | None],
) -> None:
    released.publish(seed=1)
    path = released.run.report(1)
    data = broken(json.loads(path.read_bytes()))
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    push(released)
    said = capsys.readouterr().out
    assert "round-1 is not pushed: " in said and (
        "round 1 has no report" in said or path.name in said
    )
    assert pushed(released.ledger, NAME) == []


def test_notes_are_made_only_where_a_licence_or_a_source_calls_for_them() -> None:
    free = ["CC-BY-4.0", "Apache-2.0", "", "encumbered", "CC0-1.0"]
    assert notes_of(free, sources="IndicCorp") == []
    assert len(notes_of(["cc-by-nc-4.0", "BY-NC"], sources="")) == 2
    assert notes_of(free, sources="{'source': 'ai4bharat/samanantar'}") == [SAMANANTAR]


def test_the_coordinator_holds_what_it_merged_in_the_last_rounds(released: Released) -> None:
    run_, ledger = released.run, released.ledger
    base, catalogue = ledger.fact("revision"), ledger.fact("catalogue")
    assert mirror.held_by(run_, ledger) == {base, catalogue}
    revisions = [released.publish(seed=n) for n in range(1, 7)]
    adapters = [f"{n:02x}" * 32 for n in range(1, 7)]
    for digest in adapters[1:]:
        (run_.adapter(digest)).mkdir()
        (run_.adapter(digest) / packages.MANIFEST).write_bytes(b"{}")
    # Four rounds: their parents, what came of them, and what was merged; nothing rejected.
    assert mirror.held_by(run_, ledger) == {catalogue, *revisions[1:], *adapters[2:]}


def test_every_revision_but_the_base_has_a_name_on_the_hub() -> None:
    digest = "ab" * 32
    named = [
        tag_of(Revision(digest, parent, kind, round=3, made_at=0.0))
        for parent, kind in (
            (None, Kind.BASE),
            (None, Kind.PRETRAINING),
            (digest, Kind.PRETRAINING),
            (digest, Kind.ROUND),
            (digest, Kind.REVOCATION),
        )
    ]
    assert named == [
        *(None, None, "pretraining-abababababab", "round-3", "revocation-abababababab")
    ]


@pytest.mark.swarm
def test_stock_transformers_loads_every_round_from_the_hub(
    released: Released, hub: HubServer
) -> None:
    one = released.publish(seed=1)
    push(released)
    released.abort()
    two = released.publish(seed=2)
    push(released)
    answers = stock.answers(NAME, ["round-1", "round-3"])
    for revision, (ids, logits) in zip((one, two), answers, strict=True):
        model = load_whole(released.run.package(revision)).eval()
        with torch.no_grad():
            ours = model.logits(torch.tensor([ids]))[0]
        torch.testing.assert_close(torch.tensor(logits), ours, rtol=1e-4, atol=1e-5)
    assert answers[0] != answers[1]
    repository = hub.repositories[NAME]
    assert [(p.tag, p.revision) for p in pushed(released.ledger, NAME)] == [
        ("round-1", one),
        ("round-3", two),
    ]
    assert [p.commit for p in pushed(released.ledger, NAME)] == list(repository.names.values())
    # One commit a round, upon the one that made the repository; everything of it is there.
    assert len(repository.commits) == 3
    manifest = packages.read_manifest(released.run.package(two))
    tree = repository.tree("round-3")
    assert set(tree or {}) == {".gitattributes", packages.MANIFEST, *manifest.files, *PAPERS}


@pytest.mark.swarm
def test_a_push_that_fails_is_made_again_and_sends_no_file_twice(
    released: Released, hub: HubServer
) -> None:
    revision = released.publish(seed=1)
    release(released)
    assert b"FOLDER" in papers(released, revision)[CARD]
    hub.faults.status, hub.faults.fails_at = 503, "/commit/main"
    with pytest.raises(SeshuError, match="503"):
        push(released)
    assert pushed(released.ledger, NAME) == []
    packages.verify(released.run.package(revision), revision)
    sent = [h.path for h in hub.heard if h.method == "PUT"]
    assert len(sent) >= 3
    hub.forget()
    push(released)
    assert [h.path for h in hub.heard if h.method == "PUT"] == []
    assert [p.revision for p in pushed(released.ledger, NAME)] == [revision]
    # Written before anybody knew of the Hub, the card names it all the same.
    card = (hub.repositories[NAME].tree("round-1") or {})[CARD]
    assert NAME.encode() in (hub.folder / card.digest).read_bytes()
    hub.forget()
    push(released)
    assert hub.heard == []
    # One without a report stays away, also when the report is back: the head does not go back.
    released.publish(seed=2)
    report = released.run.report(2)
    released.publish(seed=3)
    report.rename(report.with_suffix(".away"))
    push(released)
    report.with_suffix(".away").rename(report)
    push(released)
    assert [p.tag for p in pushed(released.ledger, NAME)] == ["round-1", "round-3"]


@pytest.mark.swarm
def test_a_commit_that_the_ledger_does_not_know_is_found_again(
    released: Released, hub: HubServer
) -> None:
    """Killed after the commit: before the ledger's note, or before the tag already."""
    one = released.publish(seed=1)
    push(released)
    [before] = pushed(released.ledger, NAME)
    repository = hub.repositories[NAME]
    for is_tagged in (True, False):
        released.ledger.set_fact(f"hub {NAME}", None)
        if not is_tagged:
            repository.names.clear()
        push(released)
        assert pushed(released.ledger, NAME) == [before]
        assert repository.names == {"round-1": before.commit} and len(repository.commits) == 2
    # And withdrawn before the note: what comes after it is pushed upon it, and is no fork.
    released.ledger.set_fact(f"hub {NAME}", None)
    revoked = revoke(released, parent=one, withdrawn=[one])
    push(released)
    assert [p.revision for p in pushed(released.ledger, NAME)] == [revoked]


@pytest.mark.swarm
def test_a_second_coordinator_s_push_fails_and_names_both_commits(
    released: Released, hub: HubServer, tmp_path: Path
) -> None:
    released.publish(seed=1)
    push(released)
    [first] = pushed(released.ledger, NAME)
    other = Released.opened(tmp_path / "copy")
    other.publish(seed=3)
    with pytest.raises(ForkError, match=first.commit) as caught:
        push(other)
    assert "stop one of the two" in str(caught.value)
    assert "one coordinator publishes a run" in str(caught.value)
    # One that pushed before, and was overtaken since.
    other.ledger.set_fact(f"hub {NAME}", [vars(first)])
    released.publish(seed=2)
    push(released)
    overtaking = pushed(released.ledger, NAME)[-1]
    other.publish(seed=4)
    with pytest.raises(ForkError) as caught:
        push(other)
    assert first.commit in str(caught.value) and overtaking.commit in str(caught.value)
    assert hub.repositories[NAME].head == overtaking.commit
    assert pushed(other.ledger, NAME) == [first]


@pytest.mark.swarm
def test_pushing_goes_on_by_itself_and_ends_when_the_coordinator_does(
    released: Released, hub: HubServer
) -> None:
    async def story() -> None:
        stop = Stop()
        releases = Releases(released.run, released.ledger, repository=NAME, retry_seconds=0.2)
        released.publish(seed=1)
        hub.faults.status, hub.faults.calls_left = 503, 1
        pushing = asyncio.create_task(releases.keep_pushing(stop))
        await releases.release()
        while not pushed(released.ledger, NAME):
            await asyncio.sleep(0.05)
        hub.faults.silent_seconds = 2 * DEADLINE_SECONDS
        released.publish(seed=2)
        await releases.release()
        hub.heard.clear()
        while not hub.heard:
            await asyncio.sleep(0.05)
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)

    run(story())
    assert [p.tag for p in pushed(released.ledger, NAME)] == ["round-1"]
    left = psutil.Process().children(recursive=True)
    assert not [c for c in left if "releasing" in " ".join(c.cmdline())]


@pytest.mark.swarm
def test_a_revocation_is_the_head_there_too_without_the_papers_of_the_round_before(
    released: Released, hub: HubServer
) -> None:
    one = released.publish(seed=1)
    push(released)
    # The Hub is away when the next round ends; the adapter is revoked before it is back.
    two = released.publish(seed=2)
    release(released, repository=NAME)
    revision = revoke(released, parent=two, withdrawn=[one, two])
    push(released)
    repository = hub.repositories[NAME]
    assert list(repository.names) == ["round-1", f"revocation-{revision[:12]}"]
    tree = repository.tree("main") or {}
    manifest = packages.read_manifest(released.run.package(revision))
    assert set(tree) == {".gitattributes", packages.MANIFEST, *manifest.files, CARD}
    assert tree[packages.MANIFEST].digest == revision
    card = (hub.folder / tree[CARD].digest).read_text()
    assert card.startswith("# After a revocation\n") and card.count("## Withdrawn") == 1
    assert f"- WITHDRAWN: `round-1` (`{one}`): it holds 0101" in card
    assert f"- WITHDRAWN: `round-2` (`{two}`): it holds 0101" in card
    # The round's own release is what it was.
    assert set(repository.tree("round-1") or {}) >= set(PAPERS)


@pytest.mark.swarm
def test_without_a_token_the_release_stays_in_the_swarm_and_the_way_out_is_named(
    released: Released, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    released.publish(seed=1)
    with pytest.raises(SeshuError, match=r"HTTP 401.*hf auth login"):
        push(released)
    assert pushed(released.ledger, NAME) == []


@pytest.mark.swarm
def test_a_coordinator_pushes_what_is_not_on_the_hub_and_ends_where_another_does(
    released: Released, hub: HubServer, tmp_path: Path
) -> None:
    """The command as a maintainer runs it; the run was published before it knew of the Hub."""
    released.publish(seed=1)
    two = released.publish(seed=2)
    with Processes(tmp_path) as swarm:
        coordinator = swarm.coordinator(released.run.path, "--hub", NAME)
        coordinator.wait_for("on-the-hub", seconds=60)
        coordinator.wait_for("on-the-hub", seconds=60, matching=lambda e: e["tag"] == "round-2")
        inject(coordinator, Fault.TERMINATE)
        coordinator.wait(seconds=20)
        assert list(hub.repositories[NAME].names) == ["round-1", "round-2"]
        hub.add(NAME, {packages.MANIFEST: b"of another coordinator"})
        # The ledger forgot its last push, as an older backup would have.
        released.ledger.set_fact(
            f"hub {NAME}", [vars(p) for p in pushed(released.ledger, NAME)[:1]]
        )
        del hub.repositories[NAME].names["round-2"]
        coordinator = swarm.coordinator(released.run.path, "--hub", NAME)
        assert coordinator.wait(seconds=60) == ForkError.exit_code
    assert hub.repositories[NAME].head in coordinator.tail()
    assert packages.verify(released.run.package(two), two)


def test_the_cards_of_later_rounds_name_what_was_withdrawn(released: Released) -> None:
    one = released.publish(seed=1)
    release(released)
    assert "WITHDRAWN" not in papers(released, one)[CARD].decode()
    revoked = revoke(released, parent=one, withdrawn=[one])
    two = released.publish(seed=2)
    release(released)
    card = papers(released, two)[CARD].decode()
    assert f"- WITHDRAWN: `round-1` (`{one}`)" in card and f"parent `{revoked}`" in card
