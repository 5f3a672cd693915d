"""`client status` over a real DHT: what is believed, what is shown, and hostile words as text."""

from __future__ import annotations

import asyncio
import io
import json
import time

import pytest
from rich.console import Console

from seshu_swarm.client.terminal.looking import Look, look
from seshu_swarm.client.terminal.status import _print
from seshu_swarm.client.terminal.tables import parts
from seshu_swarm.network.dht import Found, Swarm
from seshu_swarm.network.link import Link
from seshu_swarm.records.kinds import Record, RoundRecord
from seshu_swarm.run.joining import Joined
from tests.loopback import RUN_ID, Loopback
from tests.samples import DIGEST, run_record, span_record

HOSTILE = "\x1b[31m[link=https://x.example]press[/link]\n" + "x" * 200


def round_record(index: int, **fields: object) -> RoundRecord:
    facts: dict[str, object] = {"run_id": RUN_ID, "round_index": index, "parent": DIGEST}
    facts |= {"revision": None, "state": "aborted", "num_accepted": 2, "num_rejected": 5}
    return RoundRecord.model_validate(facts | {"reason": "no gain"} | fields)


@pytest.fixture(scope="module")
def seen(loopback: Loopback) -> Look:
    coordinator, client = loopback.join("coordinator"), loopback.join("client")
    host, idle = loopback.join("host"), loopback.join("idle")
    owner = loopback.identity("coordinator")
    closes = time.time() + 600.0
    run = run_record(owner, round_index=3, round_state=HOSTILE, round_closes_at=closes)

    async def announce() -> Look:
        for swarm, record in _records(coordinator, host, idle):
            assert await swarm.announce(record)
        link = Link(RUN_ID, owner.fingerprint, ())
        found = Found(run, coordinator.peer_id, 0.0)
        await asyncio.sleep(0.1)
        return await look(Joined(client, link, found, loopback.folder / "client"))

    return loopback.run(announce())


def _records(coordinator: Swarm, host: Swarm, idle: Swarm) -> list[tuple[Swarm, Record]]:
    return [
        (host, span_record(0, 3, limits=HOSTILE, num_sessions=4)),
        (idle, span_record(0, 1, paused="outside --only-hours 22-6")),
        (coordinator, round_record(2)),
        (coordinator, round_record(1, revision=DIGEST, state="published")),
        (host, round_record(3, reason="a stranger's word")),  # not the coordinator's
    ]


def shown(found: Look) -> str:
    console = Console(file=io.StringIO(), width=160)
    for part in parts(found):
        console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_a_look_counts_peers_of_blocks_and_believes_the_coordinator(seen: Look) -> None:
    assert seen.covered == [2, 1, 1, 0] and seen.missing_blocks == [3]
    assert [one.round_index for one in seen.rounds] == [2, 1]
    ages = [seen.age_seconds(one) for one in seen.spans]
    assert all(0.0 <= age < 5.0 for age in ages) and len(ages) == 2
    facts = json.loads(json.dumps(seen.facts()))
    assert facts["coverage"] == seen.covered and facts["rounds"][0]["num_rejected"] == 5
    assert {peer["num_sessions"] for peer in facts["peers"]} == {0, 4}


def test_the_tables_say_it_and_print_strangers_words_as_text(seen: Look) -> None:
    text = shown(seen)
    assert "blocks without a peer: 3" in text
    assert "outside --only-hours 22-6" in text and "closes in 10 min" in text
    assert "no gain" in text and DIGEST[:12] in text
    assert "[link=https://x.example]" in text.replace("\n", ""), "markup is text"
    assert "\x1b" not in text and "x" * 130 not in text


def test_json_is_one_document_on_standard_output(
    seen: Look, capsys: pytest.CaptureFixture[str]
) -> None:
    _print(seen, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(seen.facts()))
