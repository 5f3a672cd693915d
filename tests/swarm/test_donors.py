"""Donors in processes of their own, before a coordinator whose rounds the test decides.

Streams, stores, ledger and intake are the real ones; only what a round says is the test's.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import peft
import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.checkpoints import load_tensors, save_checkpoint
from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.data.jsonl import row_line
from seshu_swarm.data.phrasebook import rows_of
from seshu_swarm.mamba.model import SeshuMambaForCausalLM
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.streams.protocol import BLOBS, INTAKE
from tests.conftest import TinyCheckpoint
from tests.loopback import RUN_ID
from tests.online import Online
from tests.samples import run_record
from tests.stores.hub_server import TOKEN, HubServer
from tests.swarms import Fault, Processes, RoleProcess, inject

pytestmark = pytest.mark.swarm

BRIEF = ("--max-steps", "8", "--batch-tokens", "256", "--rank", "4", "--max-threads", "1")
TRAINED_SECONDS = 60.0


class Coordinator(Online):
    """Takes adapters in and gives out checkpoints; rounds open, close and judge as they are told."""

    def _coordinator(self) -> None:
        self.swarm, self._packages = self.join("coordinator"), self.folder / "packages"
        self.ledger = Ledger(self.folder / "ledger.sqlite")
        self.ledger.set_fact("run_id", RUN_ID)
        holder = Holder(
            self._packages,
            policy=HolderPolicy(takes_adapters=True),
            allow_upload=lambda _: True,
            on_stored=lambda _: None,
        )
        self.run(self.swarm.serve(BLOBS, holder.serve))
        self.run(self.swarm.serve(INTAKE, Intake(self.ledger, self.current).serve))
        self.publish(self.tiny.folder, self.tiny.revision)

    def current(self) -> Round | None:
        rounds = self.ledger.rounds()
        return rounds[-1] if rounds and rounds[-1].state not in ENDED else None

    def publish(self, folder: Path, revision: str) -> None:
        shutil.copytree(folder, self._packages / revision)
        record = run_record(self.identity("coordinator"), revision=revision, lora_max_rank=64)
        assert self.run(self.swarm.announce(record))

    def begin(self, parent: str) -> None:
        if current := self.current():
            self.ledger.move_round(current.number, RoundState.ABORTED, reason="on purpose")
        self.ledger.begin_round(parent=parent, seed=1, closes_at=time.time() + 600)

    def checkpoint(self, name: str, *, is_dead: bool = False) -> tuple[Path, str]:
        """Another revision: the tiny one's weights, or zeros, from which nothing can be learned."""
        tensors = load_tensors(self.tiny.folder)
        for tensor in tensors.values() if is_dead else ():
            tensor.zero_()
        folder = self.folder / name
        shape = checkpoints.read_shape(self.tiny.folder)
        return folder, save_checkpoint(
            folder, shape=shape, tensors=tensors, about={"name": name}, card=name
        )


@pytest.fixture
def coordinator(tiny: TinyCheckpoint, tmp_path: Path) -> Iterator[Coordinator]:
    online = Coordinator(tmp_path / "run", tiny)
    yield online
    online.close()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = (row_line(row) for row in rows_of("hi", ["ta"], Random(0))[:80])
    path.write_text("".join(lines), encoding="utf-8")
    return path


def donate(processes: Processes, link: str, name: str, data: Path, *flags: str) -> RoleProcess:
    where = ("--join", link, "--host", "127.0.0.1", "--state-dir", str(processes.folder / name))
    what = ("--data", str(data), "--language", "hi")
    return processes.start("seshu_swarm.peer", "finetune", *where, *what, *BRIEF, *flags)


def handed_in(donor: RoleProcess, number: int = 1) -> str:
    """Digest of the adapter that the donor handed in as its so-and-so-manieth."""
    event = donor.wait_for("handed-in", seconds=TRAINED_SECONDS, number=number)
    return str(event["reference"]).rpartition("/")[2]


def test_who_follows_goes_on_after_every_kind_of_no(
    coordinator: Coordinator, rows: Path, tmp_path: Path
) -> None:
    ledger, tiny = coordinator.ledger, coordinator.tiny
    dead, newer, last = (
        coordinator.checkpoint("dead", is_dead=True),
        coordinator.checkpoint("newer"),
        coordinator.checkpoint("last"),
    )
    coordinator.begin(tiny.revision)
    with Processes(tmp_path / "swarm") as processes:
        donor = donate(processes, coordinator.link, "donor", rows, "--follow")
        first = handed_in(donor)
        ledger.judge(first, state="rejected", reason="NO_GAIN", gain="-0.001 bits", next_step="x")
        told = donor.wait_for("verdict", seconds=20)
        assert told["text"] == "rejected: NO_GAIN; gain: -0.001 bits; next: x"

        coordinator.publish(*dead)
        failed = donor.wait_for("failed", seconds=TRAINED_SECONDS)
        assert (
            failed["revision"] == dead[1] and "the next checkpoint is waited for" in failed["text"]
        )

        # Published already, but its round is open for another base.
        coordinator.begin(last[1])
        coordinator.publish(*newer)
        refused = donor.wait_for(
            "verdict", seconds=TRAINED_SECONDS, matching=lambda e: e["state"] == "refused"
        )
        assert refused["reason"].startswith("STALE_BASE") and "--follow" in refused["next_step"]
        assert refused["gain"] == "not measured"

        coordinator.publish(*last)
        second = handed_in(donor, 2)
        ledger.judge(second, state="accepted", reason="GAIN", gain="+0.1 bits", next_step="")
        accepted = donor.wait_for(
            "verdict", seconds=20, matching=lambda e: e["state"] == "accepted"
        )
        assert accepted["next_step"] and second != first

        status = processes.start(
            "seshu_swarm.peer", "status", "--state-dir", str(processes.folder / "donor")
        )
        shown = status.wait_for("status", seconds=20)
        assert [shown[key] for key in ("state", "reason", "gain")] == [
            "accepted",
            "GAIN",
            "+0.1 bits",
        ]
        assert shown["next_step"] == accepted["next_step"] and shown["running"]
        inject(donor, Fault.TERMINATE)
        assert donor.wait(seconds=10) == 130


def test_killed_while_it_trains_it_ends_with_the_adapter_of_an_undisturbed_one(
    coordinator: Coordinator, rows: Path, tmp_path: Path
) -> None:
    coordinator.begin(coordinator.tiny.revision)
    longer = ("--max-steps", "40", "--save-seconds", "0.001", "--accumulate", "2")
    with Processes(tmp_path / "swarm") as processes:
        donor = donate(processes, coordinator.link, "donor", rows, *longer)
        seen = donor.wait_for(
            "progress", seconds=TRAINED_SECONDS, matching=lambda e: e["fraction"] > 0.2
        )
        inject(donor, Fault.KILL)
        donor.wait(seconds=5)
        assert not [event for event in donor.events if event["event"] == "trained"]

        again = donate(processes, coordinator.link, "donor", rows, *longer)
        digest = handed_in(again)
        progress = [event for event in again.events if event["event"] == "progress"]
        assert progress[0]["fraction"] >= seen["fraction"]
        assert any("seconds_left" in event for event in progress)

        # The same rows and seed elsewhere give the very same adapter: it has an owner already.
        undisturbed = donate(processes, coordinator.link, "another", rows, *longer)
        undisturbed.wait_for("trained", seconds=TRAINED_SECONDS)
        refused = undisturbed.wait_for("verdict", seconds=20)
        assert refused["adapter"] == digest
        assert refused["reason"].startswith("NOT_OWNER") and "--seed" in refused["next_step"]
        assert undisturbed.wait(seconds=20) == 63
        assert undisturbed.tail().count("NOT_OWNER") == 1
        coordinator.ledger.judge(digest, state="rejected", reason="x", gain="", next_step="")
        assert again.wait(seconds=20) == 0


def test_between_rounds_and_without_the_hub_a_donor_finds_a_way(
    coordinator: Coordinator,
    rows: Path,
    tmp_path: Path,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Processes(tmp_path / "swarm") as processes:
        hub = ("--store", "hub", "--repository", "someone/adapter")
        donor = donate(processes, coordinator.link, "donor", rows, *hub)
        fallback = donor.wait_for("fallback", seconds=TRAINED_SECONDS)
        assert fallback["text"].startswith("not pushed to the Hub: the Hub did not ")
        waiting = donor.wait_for("waiting", seconds=30)
        assert waiting["refusal"] == "ROUND_CLOSED" and "leave it running" in waiting["text"]
        coordinator.begin(coordinator.tiny.revision)
        digest = handed_in(donor)
        submission = coordinator.ledger.adapter(digest)
        assert submission is not None and submission.state == "pending"
        coordinator.ledger.judge(digest, state="rejected", reason="x", gain="", next_step="y")
        assert donor.wait_for("verdict", seconds=20)["next_step"] == "y"
        assert donor.wait(seconds=20) == 0


def test_a_task_adapter_is_offered_listed_and_fetched_and_never_handed_in(
    coordinator: Coordinator, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, tiny = HubServer(tmp_path / "hub"), coordinator.tiny
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    coordinator.begin(tiny.revision)
    stores = {"swarm": (), "hub": ("--store", "hub", "--repository", "someone/adapter")}
    with Processes(tmp_path / "swarm") as processes:
        offered = {}
        for seed, (store, flags) in enumerate(stores.items()):
            task = ("--task", f"names-{store}", "--seed", str(seed))
            donor = donate(processes, coordinator.link, store, rows, *task, *flags)
            offered[store] = donor.wait_for("offered", seconds=TRAINED_SECONDS)
            assert donor.wait(seconds=20) == 0
        assert offered["hub"]["reference"].startswith("hf://someone/adapter@")
        assert not coordinator.ledger.adapters(1)

        user: tuple[str, ...] = ("--join", coordinator.link, "--host", "127.0.0.1")
        user += ("--state-dir", str(tmp_path / "user"))
        listing = processes.start("seshu_swarm.peer", "adapters", *user, "--language", "hi")
        listed = listing.wait_for("adapters", seconds=30)["adapters"]
        assert [one["task"] for one in listed] == ["names-hub", "names-swarm"]
        assert all(one["base_revision"] == tiny.revision for one in listed)

        for store, record in offered.items():
            out = tmp_path / f"fetched-{store}"
            which = ("--fetch", record["digest"][:12], "--out", str(out))
            fetching = processes.start("seshu_swarm.peer", "adapters", *user, *which)
            assert fetching.wait(seconds=30) == 0, fetching.tail()
            base = SeshuMambaForCausalLM.from_pretrained(tiny.folder)
            ids = torch.arange(3, 40)[None]
            with torch.no_grad():
                plain = base(input_ids=ids).logits.clone()
                found = peft.PeftModel.from_pretrained(base, str(out)).eval()(input_ids=ids).logits
            assert float((found - plain).abs().max()) > 1e-3
        missing = processes.start(
            "seshu_swarm.peer", "adapters", *user, "--fetch", "f" * 12, "--out", str(tmp_path / "x")
        )
        assert missing.wait(seconds=30) == 2
    hub.close()
