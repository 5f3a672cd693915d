"""What a donor decides by itself: deals, licences, holders, pauses, and what it refuses early."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import threading
import time
from pathlib import Path
from random import Random

import pytest
import torch

from seshu_swarm import packages
from seshu_swarm.data.jsonl import row_line
from seshu_swarm.data.phrasebook import rows_of
from seshu_swarm.errors import DataError, RefusalError, SeshuError, TrainingError, UsageError
from seshu_swarm.network.identity import load_or_create
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating import donor
from seshu_swarm.peer.donating.background import in_background
from seshu_swarm.peer.donating.dealing import FILE, Deal, Deals
from seshu_swarm.peer.donating.donor import check_run, goes_on
from seshu_swarm.peer.donating.handing_in import licence_for, rotated
from seshu_swarm.peer.donating.lora_settings import LoraSettings, lora_settings
from seshu_swarm.peer.donating.rows import Dealt
from seshu_swarm.peer.donating.tuning import tune
from seshu_swarm.peer.donating.verdicts import word_of_verdict
from seshu_swarm.peer.donating.waiting import LONGEST_PAUSE_SECONDS, pauses
from seshu_swarm.program.running import Stop
from seshu_swarm.streams.protocol import Verdict
from tests.conftest import TinyCheckpoint
from tests.samples import run_record
from tests.spans import make_guest

torch.set_num_threads(1)

ROWS = rows_of("hi", ["ta"], Random(0))[:60]
BASE, OTHER = "a" * 64, "b" * 64


def test_the_first_deal_on_a_base_stays_over_rounds_and_restarts(tmp_path: Path) -> None:
    assert Deals(tmp_path).of(BASE, 4) == Deal(4)
    assert Deals(tmp_path).of(BASE, 5) == Deal(4)
    assert Deals(tmp_path).of(OTHER, 5) == Deal(5)
    assert Deals(tmp_path).of(BASE, 7) == Deal(4)


def test_only_a_final_no_deals_anew_and_in_a_later_round(tmp_path: Path) -> None:
    deals = Deals(tmp_path)
    deals.reject(BASE, deals.of(BASE, 4), 6)
    assert deals.of(BASE, 6) == Deal(4, rejected_in=6)
    assert deals.of(BASE, 7) == Deal(7, tries=1)
    deals.reject(BASE, deals.of(BASE, 8), 8)
    assert Deals(tmp_path).of(BASE, 9) == Deal(9, tries=2)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 3}', '{"a": {"round_index": "x"}}', '{"a": {}}'])
def test_a_broken_file_of_deals_costs_the_deals_only(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert Deals(tmp_path).of(BASE, 3) == Deal(3)
    assert json.loads((tmp_path / FILE).read_text())[BASE]["round_index"] == 3


def test_the_file_of_deals_does_not_grow_for_ever(tmp_path: Path) -> None:
    for number in range(40):
        Deals(tmp_path).of(f"{number:064x}", number)
    assert len(json.loads((tmp_path / FILE).read_text())) == 16
    assert Deals(tmp_path).of(f"{39:064x}", 50) == Deal(39)


def test_who_follows_goes_on_with_another_base_or_with_a_later_round(tmp_path: Path) -> None:
    me = load_or_create(tmp_path)
    run, later = (run_record(me, revision=BASE, round_index=i) for i in (4, 5))
    other = run_record(me, revision=OTHER, round_index=4)
    assert goes_on(run, other, None) and goes_on(run, other, 4)
    assert not goes_on(run, later, None), "accepted: the next checkpoint has it"
    assert goes_on(run, later, 4) and not goes_on(run, run, 4)
    assert not goes_on(run, later, 5), "the word came in that very round"
    assert goes_on(run, run, donor.AT_ONCE)


@pytest.mark.parametrize(
    ("state", "reason", "is_final"),
    [
        ("rejected", "NO_GAIN: it adds 0", True),
        ("rejected", "NOT_PUBLISHED: the round published nothing", False),
        ("accepted", "GAIN", False),
    ],
)
def test_which_words_end_an_adapter(state: str, reason: str, is_final: bool) -> None:
    verdict = Verdict(state=state, reason=reason, gain="", next_step="", round_index=6)
    word = word_of_verdict(verdict)
    assert (word.is_final_no, word.round_index) == (is_final, 6)


def test_a_run_takes_only_its_languages_and_ranks(tmp_path: Path) -> None:
    run = run_record(load_or_create(tmp_path), languages=("hi", "ta"), lora_max_rank=8)
    check_run(FinetuneConfig(language="ta", rank=8), run)
    check_run(FinetuneConfig(rank=8), run)
    check_run(FinetuneConfig(language="mr", rank=8, task="names"), run)
    with pytest.raises(UsageError, match=r"--language mr.*for hi, ta.*--task"):
        check_run(FinetuneConfig(language="mr", rank=8), run)
    with pytest.raises(UsageError, match=r"--rank 9.*at most rank 8"):
        check_run(FinetuneConfig(language="hi", rank=9), run)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"repository": "name"}, "--repository 'name'.*OWNER/NAME"),
        ({"repository": "https://huggingface.co/a/b"}, "--repository 'https"),
        ({"licence": "x" * 301}, "--licence of 301 characters.*300"),
        ({"licence": ""}, "--licence of 0 characters"),
        ({"wait_seconds": 0.0}, "--wait-seconds 0.0"),
        ({"wait_seconds": float("inf")}, "--wait-seconds inf"),
        ({"save_seconds": float("nan")}, "--save-seconds nan"),
        ({"save_seconds": -1.0}, "--save-seconds -1.0"),
    ],
)
def test_settings_that_could_only_fail_later_are_refused(
    wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        FinetuneConfig(**wrong)  # type: ignore[arg-type]
    FinetuneConfig(repository="owner/adapter-1.0", licence="x" * 300)


def test_own_rows_are_checked_before_anybody_is_joined(tmp_path: Path) -> None:
    # A link that leads nowhere: whoever dialled it would fail with another error.
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(row_line(row) for row in ROWS))
    wrong: list[tuple[dict[str, str], type[SeshuError], str]] = [
        ({"data": str(tmp_path / "rows.csv")}, DataError, "is not there"),
        ({"data": str(path), "columns": "output=answer"}, DataError, "no key 'answer'"),
        ({"data": str(path), "columns": "answer=output"}, UsageError, "column map names 'answer'"),
        ({"data": str(path), "columns": "output"}, UsageError, "--columns 'output'"),
    ]
    for flags, kind, said in wrong:
        with pytest.raises(kind, match=said):
            donor.run(FinetuneConfig(language="hi", join="seshu://", **flags))  # type: ignore[arg-type]
    donor.check(FinetuneConfig(language="hi", data=str(path)))


def test_rows_of_samanantar_are_never_given_under_a_wider_licence_unawares() -> None:
    bound = FinetuneConfig(language="hi", data="ai4bharat/Samanantar")
    assert licence_for(bound)[0] == "CC-BY-NC-4.0" and "bind" in licence_for(bound)[1]
    told = dataclasses.replace(bound, licence="CC0-1.0")
    assert licence_for(told)[0] == "CC0-1.0"
    assert licence_for(FinetuneConfig())[0] == "CC-BY-4.0"


def test_donors_leave_their_adapters_with_different_holders() -> None:
    holders = [f"host-{n}" for n in range(5)]
    first = [rotated(holders, f"donor-{n}")[0] for n in range(200)]
    assert set(first) == set(holders)
    assert max(first.count(holder) for holder in holders) < 80
    own = rotated(holders, "host-3")
    assert sorted(own) == sorted(set(holders) - {"host-3"}) and own == rotated(holders, "host-3")
    assert rotated([], "donor") == [] and rotated(["donor"], "donor") == []


def test_the_coordinator_is_asked_more_and_more_rarely() -> None:
    spans = list(itertools.islice(pauses(Random(1)), 200))
    assert 1.5 < spans[0] <= 2.0 and all(1.5 < one <= LONGEST_PAUSE_SECONDS for one in spans)
    assert min(spans[50:]) > 20 and len(set(spans[50:])) > 100
    assert spans != list(itertools.islice(pauses(Random(2)), 200))
    # Over an hour, where every 2 s were 1800 questions.
    asked = sum(1 for passed in itertools.accumulate(spans) if passed < 3_600)
    assert asked < 180


def test_how_an_adapter_is_trained_has_one_set_of_defaults() -> None:
    assert lora_settings(FinetuneConfig(), has_text=True) == LoraSettings()


def settings_of(folder: Path, **changes: object) -> FinetuneConfig:
    brief: dict[str, object] = {"max_steps": 4, "batch_tokens": 256, "rank": 4}
    return FinetuneConfig(state_dir=str(folder), **(brief | changes))  # type: ignore[arg-type]


def test_an_adapter_that_was_trained_before_is_signed_with_the_same_count(
    tiny: TinyCheckpoint, tmp_path: Path
) -> None:
    dealt, settings = Dealt(ROWS, "hi", "rows.jsonl"), settings_of(tmp_path)

    async def twice() -> None:
        stop, guest = Stop(), make_guest(tmp_path)
        fresh = await tune(tiny.folder, dealt, settings, guest=guest, stop=stop)
        again = await tune(tiny.folder, dealt, settings, guest=guest, stop=stop)
        assert fresh is not None and again == fresh
        about = packages.read_manifest(fresh.folder).about
        assert fresh.num_rows == about["num_rows"] < len(ROWS)

    asyncio.run(twice())


def test_more_time_goes_on_with_the_training_that_was_stopped(
    tiny: TinyCheckpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dealt = Dealt(ROWS, "hi", "rows.jsonl")
    short = settings_of(tmp_path, max_steps=4, save_seconds=1e-6, learning_rate=1e-12)

    async def train(settings: FinetuneConfig) -> None:
        await tune(tiny.folder, dealt, settings, guest=make_guest(tmp_path), stop=Stop())

    # With such a learning rate nothing is learned, so the state is kept.
    with pytest.raises(TrainingError, match="--max-seconds"):
        asyncio.run(train(short))
    caplog.set_level("INFO")
    with pytest.raises(TrainingError):
        asyncio.run(train(dataclasses.replace(short, max_steps=6)))
    assert "training goes on after step 4" in caplog.text


def test_work_that_blocks_is_left_alone_when_the_donor_is_stopped() -> None:
    release = threading.Event()

    async def stopped() -> float:
        stop = Stop()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        began = time.monotonic()
        assert await in_background(stop, lambda: release.wait(20)) is None
        return time.monotonic() - began

    assert asyncio.run(stopped()) < 5
    release.set()


def test_work_in_the_background_gives_what_it_returns_or_raises() -> None:
    def fail() -> None:
        raise RefusalError("NO", "no")

    async def both() -> None:
        assert await in_background(Stop(), lambda: 7) == 7
        with pytest.raises(RefusalError):
            await in_background(Stop(), fail)

    asyncio.run(both())
