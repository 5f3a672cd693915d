"""Donors hand in and ask: everything is acknowledged or refused by name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm import WIRE_VERSION
from seshu_swarm.coordinator.rounds import gather, intake, report
from seshu_swarm.coordinator.rounds.intake import MAX_ADAPTERS_PER_PEER, Intake, RateLimit
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.errors import ProtocolError, RefusalError, WireVersionError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord, Record
from seshu_swarm.streams.protocol import INTAKE, AskVerdict, IntakeRequest, SubmitAdapter, Verdict
from tests.loopback import RUN_ID, Loopback
from tests.samples import DIGEST, OTHER, provider_record

PARENT = "ee" * 32


def adapter(digest: str = DIGEST, **fields: Any) -> AdapterRecord:
    facts: dict[str, Any] = {
        "run_id": RUN_ID,
        "reference": f"swarm://sha256/{digest}",
        "digest": digest,
        "base_revision": PARENT,
        "rank": 8,
        "language": "hi",
        "num_rows": 100,
        "licence": "CC-BY-4.0",
        "round_index": 1,
    }
    return AdapterRecord(**(facts | fields))


class Desk:
    """A ledger and its intake; rounds as the coordinator sees them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.ledger.set_fact("run_id", adapter().run_id)
        self.intake = Intake(self.ledger, self.current)

    def current(self) -> Round | None:
        rounds = self.ledger.rounds()
        return rounds[-1] if rounds and rounds[-1].state not in ENDED else None

    def begin(self) -> Round:
        return self.ledger.begin_round(parent=PARENT, seed=1, closes_at=time.time() + 60)

    def take(self, record: Record, owner: str = "donor") -> Verdict:
        return self.intake.take(owner, record_bytes.to_bytes(record))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def refused(desk: Desk, record: Record, owner: str = "donor") -> str:
    with pytest.raises(RefusalError) as caught:
        desk.take(record, owner)
    return caught.value.name


def test_an_adapter_is_acknowledged_and_noted(desk: Desk) -> None:
    desk.begin()
    verdict = desk.take(adapter())
    assert (verdict.state, verdict.round_index) == ("pending", 1)
    assert verdict.reason == "waiting for the round to close"
    [noted] = desk.ledger.adapters(1)
    assert noted.owner == "donor" and gather.record_of(noted) == adapter()


def test_the_same_adapter_again_gets_the_same_answer(desk: Desk) -> None:
    desk.begin()
    desk.take(adapter())
    assert desk.take(adapter()).state == "pending"
    desk.ledger.judge(DIGEST, state="accepted", reason="GAIN", gain="-0.2", next_step="")
    assert desk.take(adapter()).state == "accepted"
    assert len(desk.ledger.adapters(1)) == 1


def test_an_adapter_whose_round_came_to_nothing_takes_part_in_the_next(desk: Desk) -> None:
    current = desk.begin()
    desk.take(adapter())
    judgements = report.judgements(desk.ledger, current, report.Decided({}, {}), is_published=False)
    desk.ledger.end_round(
        current, RoundState.ABORTED, judgements=judgements, reason="the gate said no"
    )
    assert desk.begin().number == 2
    verdict = desk.take(adapter())
    assert (verdict.state, verdict.round_index) == ("pending", 2)


def test_one_refused_on_merit_stays_refused(desk: Desk) -> None:
    number = desk.begin().number
    desk.take(adapter())
    desk.ledger.judge(
        DIGEST, state="rejected", reason="NO_GAIN: it adds nothing", gain="", next_step=""
    )
    desk.ledger.move_round(number, RoundState.ABORTED, reason="nothing helped")
    desk.begin()
    assert (desk.take(adapter()).state, len(desk.ledger.adapters(2))) == ("rejected", 0)


def test_nobody_hands_in_anothers_adapter(desk: Desk) -> None:
    desk.begin()
    desk.take(adapter())
    assert refused(desk, adapter(), owner="thief") == "NOT_OWNER"


def test_an_adapter_for_a_task_is_never_merged(desk: Desk) -> None:
    desk.begin()
    assert refused(desk, adapter(purpose="task", task="summaries")) == "NOT_FOR_MERGING"
    assert not desk.ledger.adapters(1)


def test_no_round_or_a_closed_one_takes_nothing(desk: Desk) -> None:
    assert refused(desk, adapter()) == "ROUND_CLOSED"
    number = desk.begin().number
    desk.ledger.move_round(number, RoundState.GATHERING)
    assert refused(desk, adapter()) == "ROUND_CLOSED"
    desk.ledger.move_round(number, RoundState.ABORTED)
    assert refused(desk, adapter()) == "ROUND_CLOSED"


def test_an_adapter_of_another_base_is_stale(desk: Desk) -> None:
    desk.begin()
    assert refused(desk, adapter(base_revision=OTHER)) == "STALE_BASE"


def test_an_adapter_of_another_run_is_not_ours(desk: Desk) -> None:
    desk.begin()
    assert refused(desk, adapter(run_id="another-run")) == "RUN_UNKNOWN"


def test_silent_peers_are_forgotten_before_they_fill_the_memory() -> None:
    rate = intake.RateLimit(1)
    for number in range(intake.MAX_PEERS_COUNTED):
        assert rate.allow(f"peer-{number}", 0.0)
    assert not rate.allow("peer-0", 30.0)
    assert rate.allow("one-more", 61.0)
    assert len(rate._calls) == 1


def test_one_donor_cannot_fill_a_round(desk: Desk) -> None:
    desk.begin()
    for number in range(MAX_ADAPTERS_PER_PEER):
        desk.take(adapter(f"{number:064x}"))
    assert refused(desk, adapter("f" * 64)) == "RATE_LIMITED"
    assert desk.take(adapter("f" * 64), owner="another").state == "pending"
    desk.ledger.move_round(1, RoundState.ABORTED)
    desk.begin()
    assert desk.take(adapter("d" * 64)).round_index == 2


def test_another_record_is_no_adapter(desk: Desk) -> None:
    desk.begin()
    assert refused(desk, provider_record()) == "MALFORMED"
    with pytest.raises(ProtocolError):
        desk.intake.take("donor", b"garbage" * 10)
    foreign = record_bytes.to_bytes(adapter().model_copy(update={"wire_version": WIRE_VERSION + 1}))
    with pytest.raises(WireVersionError):
        desk.intake.take("donor", foreign)


def test_calls_a_minute_are_counted_for_each_peer() -> None:
    rate = RateLimit(3)
    assert [rate.allow("a", now) for now in (0.0, 10.0, 20.0, 30.0, 59.9)] == [True] * 3 + [
        False
    ] * 2
    assert rate.allow("b", 30.0)
    assert rate.allow("a", 60.1) and not rate.allow("a", 60.2)
    # A refused call costs nothing: ten seconds later the next one is free.
    assert rate.allow("a", 70.1)


def test_random_ids_say_nothing_of_authors_or_order() -> None:
    digests = [f"{n:064x}" for n in range(6)]
    ids = gather.strip_names(digests, seed=5)
    assert sorted(ids.values()) == digests and len(ids) == 6
    assert all(len(name) == 16 and name not in digest for name, digest in ids.items())
    # The same round gives the same ids after a restart, in whatever order adapters came.
    assert gather.strip_names(digests[::-1], seed=5) == ids
    assert gather.strip_names(digests, seed=6) != ids
    assert list(ids.values()) != digests


@pytest.fixture(scope="module")
def coordinator(loopback: Loopback) -> tuple[Swarm, Desk]:
    swarm = loopback.join("coordinator")
    desk = Desk(loopback.folder / "run")
    desk.begin()
    loopback.run(swarm.serve(INTAKE, desk.intake.serve))
    return swarm, desk


@pytest.fixture(scope="module")
def donor(loopback: Loopback, coordinator: tuple[Swarm, Desk]) -> Swarm:
    return loopback.join("donor")


async def say(donor: Swarm, where: Swarm, request: SubmitAdapter | AskVerdict) -> Verdict:
    stream = await donor.open(where.peer_id, INTAKE)
    try:
        await stream.send(IntakeRequest(request=request))
        return await stream.receive(Verdict, seconds=5, what="a verdict")
    finally:
        stream.close()


def test_over_the_stream_the_speaker_is_the_owner(
    loopback: Loopback, coordinator: tuple[Swarm, Desk], donor: Swarm
) -> None:
    swarm, desk = coordinator
    data = record_bytes.to_bytes(adapter())
    assert loopback.run(say(donor, swarm, AskVerdict(digest=DIGEST))).state == "unknown"
    assert loopback.run(say(donor, swarm, SubmitAdapter(record=data))).state == "pending"
    noted = desk.ledger.adapter(DIGEST)
    assert noted is not None and noted.owner == donor.peer_id
    desk.ledger.judge(DIGEST, state="accepted", reason="GAIN", gain="-0.2", next_step="x" * 400)
    verdict = loopback.run(say(donor, swarm, AskVerdict(digest=DIGEST)))
    assert (verdict.state, verdict.gain) == ("accepted", "-0.2")
    assert len(verdict.next_step) == 300


@pytest.mark.parametrize("data", [b"", b"garbage", record_bytes.to_bytes(provider_record())])
def test_over_the_stream_what_is_no_adapter_is_malformed(
    loopback: Loopback, coordinator: tuple[Swarm, Desk], donor: Swarm, data: bytes
) -> None:
    with pytest.raises(RefusalError, match="MALFORMED"):
        loopback.run(say(donor, coordinator[0], SubmitAdapter(record=data)))


def test_an_adapter_announced_in_the_dht_is_taken_for_its_owner(
    loopback: Loopback, coordinator: tuple[Swarm, Desk], donor: Swarm
) -> None:
    swarm, desk = coordinator
    announced = adapter("12" * 32)
    stale = adapter("34" * 32, base_revision=OTHER)
    for_a_task = adapter("56" * 32, purpose="task", task="summaries")
    for record in (announced, stale, for_a_task):
        assert loopback.run(donor.announce(record))
    loopback.run(gather.look_up(swarm, desk.intake))
    noted = desk.ledger.adapter(announced.digest)
    assert noted is not None and noted.owner == donor.peer_id
    assert desk.ledger.adapter(stale.digest) is None
    assert desk.ledger.adapter(for_a_task.digest) is None


def test_who_asks_too_often_is_told_so(
    loopback: Loopback,
    coordinator: tuple[Swarm, Desk],
    donor: Swarm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swarm, desk = coordinator
    monkeypatch.setattr(desk.intake, "_rate", RateLimit(2))

    async def ask_often() -> list[str]:
        states = []
        for _ in range(3):
            states.append((await say(donor, swarm, AskVerdict(digest=OTHER))).state)
        return states

    said = f"RATE_LIMITED.*{intake.MAX_REQUESTS_PER_MINUTE} requests a minute"
    with pytest.raises(RefusalError, match=said):
        loopback.run(ask_often())
