"""The main job in small, as a newcomer runs it: one demo, and everything it must leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from seshu_swarm import checkpoints, packages
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.catalogue import read_shard
from seshu_swarm.data.holdout import read_holdout
from seshu_swarm.spans import Span
from tests import stock

# What its donors learn in so many seconds must be enough for a round.
pytestmark = [pytest.mark.swarm, pytest.mark.alone]

LANGUAGES = ("hi", "ta", "bn")
SMALL = ("--d-model", "64", "--pretrain-seconds", "15", "--finetune-seconds", "12")
DEMO_SECONDS = 280


@dataclass(frozen=True)
class Played:
    folder: Path
    report: dict[str, Any]
    output: str

    @property
    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = self.report["results"]
        return found

    @property
    def checkpoint(self) -> Path:
        return Path(self.report["checkpoint"])

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "run")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("played")
    report = folder / "report.json"
    command = [sys.executable, "-m", "seshu_swarm", "demo", "--folder", str(folder / "demo")]
    command += ["--languages", ",".join(LANGUAGES), "--report", str(report), *SMALL]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEMO_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    yield Played(folder / "demo", json.loads(report.read_bytes()), done.stdout)


def test_the_round_published_a_better_model_in_every_language(played: Played) -> None:
    assert played.results["published"] is True
    assert played.results["adapters_accepted"] >= 1
    for language in LANGUAGES:
        before = played.results[f"bits_per_byte_before_{language}"]
        assert played.results[f"bits_per_byte_after_{language}"] < before
        assert played.results[f"bits_per_byte_change_high_{language}"] < 0


def test_the_tokens_are_those_of_one_process_though_a_peer_was_killed(played: Played) -> None:
    assert played.results["tokens_identical"] is True
    assert played.results["peers_replaced"] >= 1
    struck = [row for row in played.report["rows"] if row.get("killed")]
    assert len(struck) == 1 and struck[0]["tokens"] == struck[0]["expected"]
    assert len(struck[0]["tokens"]) > 100


def test_the_table_names_every_language_and_adapter(played: Played) -> None:
    for language in LANGUAGES:
        assert f"│ {language} " in played.output
    assert played.output.count("accepted") + played.output.count("rejected") >= 3
    assert "checkpoint: " in played.output


def test_hosts_fetched_only_their_blocks(played: Played) -> None:
    revision = played.checkpoint.name
    for name, span in (("host-1", Span(0, 2)), ("host-2", Span(2, 4)), ("host-3", Span(2, 4))):
        held = {p.name for p in (played.folder / name / "packages" / revision).iterdir()}
        assert held == {*checkpoints.files_for_span(span), packages.MANIFEST}


def test_no_held_out_row_was_dealt(played: Played) -> None:
    held = {
        item.digest
        for name in ("tuning", "gate", "final")
        for item in read_holdout(played.run.hold_outs / f"{name}-1.jsonl").items()
    }
    shards = [
        path for language in LANGUAGES for path in played.run.packages.glob(f"*/{language}-*.jsonl")
    ]
    dealt = {row.digest for path in shards for row in read_shard(path)}
    assert len(held) > 100 and len(dealt) > 1_000 and not held & dealt


def test_stock_transformers_gives_the_same_logits(played: Played) -> None:
    [(ids, logits)] = stock.answers(str(played.checkpoint), loader="MambaForCausalLM")
    with torch.inference_mode():
        ours = checkpoints.load_whole(played.checkpoint).logits(torch.tensor([ids]))[0]
    assert torch.allclose(ours, torch.tensor(logits), atol=1e-4)


def test_the_round_can_be_merged_again(played: Played) -> None:
    command = [sys.executable, "-m", "seshu_swarm.coordinator", "verify", "1"]
    command += ["--state-dir", str(played.run.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert played.checkpoint.name in done.stdout


def test_no_process_is_left(played: Played) -> None:
    assert not of_folder(played.folder)


def of_folder(folder: Path) -> list[str]:
    """Command lines of live processes, p2p daemons too, that work in `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(folder) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found
