"""More pretraining between rounds: forgetting is real, replay helps, and the gate decides."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from seshu_swarm import packages
from seshu_swarm.checkpoints import load_whole
from seshu_swarm.coordinator.config import PretrainConfig
from seshu_swarm.coordinator.pretraining import command, continuing
from seshu_swarm.coordinator.pretraining.training import held_out_bits
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role
from seshu_swarm.coordinator.state.lineage import Kind
from seshu_swarm.coordinator.state.readings import Readings
from seshu_swarm.data.holdout import read_holdout
from seshu_swarm.data.jsonl import document_line
from seshu_swarm.data.phrasebook import build
from seshu_swarm.data.text import Document
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.windows import windows_of_documents
from seshu_swarm.errors import DataError, RoundError, UsageError
from tests.coordinator.runs import Run, adapter_on, hand_in, opened, publish_round

torch.set_num_threads(1)

STEPS = 40
NO_HARM = 0.01  # bits per byte, the accept rule's margin


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has held a round."""
    run = opened(tmp_path_factory.mktemp("held") / "state")
    publish_round(run, {adapter_on(run, run.part(0), steps=5): 0.3})
    return run


@pytest.fixture
def run(held: Run, tmp_path: Path) -> Run:
    return held.copy(tmp_path / "state")


@pytest.fixture(scope="module")
def hindi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New text in one of the run's two languages."""
    return folder_of(tmp_path_factory.mktemp("data"), "hi", build(["hi"], 1).documents["hi"])


def folder_of(path: Path, language: str, documents: tuple[Document, ...]) -> Path:
    (path / "pretrain").mkdir(parents=True)
    lines = "".join(document_line(document) for document in documents)
    (path / "pretrain" / f"{language}.jsonl").write_text(lines, encoding="utf-8")
    return path


def pretrain(run: Run, data: Path | None, **changes: float) -> int:
    facts = {"replay_share": 0.5, "max_steps": STEPS, "learning_rate": 0.004} | changes
    return command.run(
        PretrainConfig(
            state_dir=str(run.folder.path),
            data=str(data) if data else None,
            length=128,
            max_threads=1,
            **facts,  # type: ignore[arg-type]
        )
    )


def text_bits(run: Run, revision: str) -> dict[str, float]:
    """Bits per byte of the gate's running text, every byte of it."""
    sets = HoldOuts(run.folder, run.ledger.database)
    held = read_holdout(sets.path(sets.in_use(Role.GATE).name))
    windows = {
        language: windows_of_documents(ByteTokeniser(), documents)
        for language, documents in held.documents.items()
    }
    return held_out_bits(load_whole(run.folder.package(revision)), windows)


def test_with_replay_the_old_language_is_kept_and_the_head_moves_on(run: Run, hindi: Path) -> None:
    before, parent, old = text_bits(run, run.head), run.head, len(run.text("hi"))
    assert pretrain(run, hindi) == 0
    head = run.lineage.head()
    assert head is not None and run.ledger.fact("revision") == head.revision != parent
    assert (head.parent, head.kind, head.round) == (parent, Kind.PRETRAINING, 1)
    assert run.lineage.since_boundary() == [head]
    after = text_bits(run, head.revision)
    assert after["hi"] < before["hi"] and after["ta"] < before["ta"] + NO_HARM
    about = packages.verify(run.folder.package(head.revision), head.revision).about
    assert (about["parent"], about["round"]) == (parent, 1)
    assert list(about["data"]) == ["hi"] and sorted(about["replayed"]) == ["hi", "ta"]
    card = (run.folder.package(head.revision) / "README.md").read_text(encoding="utf-8")
    assert parent in card and "reading 1): passed" in card and "license: cc-by-4.0" in card
    # The new text belongs to the run now: it is old the next time.
    assert len(run.text("hi")) > old
    with pytest.raises(DataError, match="nothing new"):
        pretrain(run, hindi)
    assert Readings(run.ledger.database).count("gate-1") == 1


def test_without_replay_the_old_language_is_forgotten_and_the_gate_says_no(
    run: Run, hindi: Path
) -> None:
    parent, before, text = run.head, text_bits(run, run.head), run.text("hi")
    with pytest.raises(RoundError, match="ta may be harmed") as refused:
        pretrain(run, hindi, replay_share=0.0)
    assert run.head == parent == run.ledger.fact("revision")
    [kept] = [p for p in run.folder.packages.iterdir() if p.name in str(refused.value.what)]
    after = text_bits(run, kept.name)
    assert after["hi"] < before["hi"] and after["ta"] > before["ta"] + 10 * NO_HARM
    assert run.text("hi") == text
    assert "not passed" in (kept / "README.md").read_text(encoding="utf-8")
    assert not list(run.folder.training_state.glob("new-text-*"))


class KilledError(Exception):
    """Stands for the end of the process."""


def test_killed_before_the_gate_it_meets_the_gate_with_what_was_trained(
    run: Run,
    hindi: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unbroken = run.copy(tmp_path / "unbroken")
    pretrain(unbroken, hindi)

    def die(*arguments: object, **keywords: object) -> None:
        raise KilledError

    for step in ("pass_gate", "add_text", "move_head"):
        with monkeypatch.context() as patched, pytest.raises(KilledError):
            patched.setattr(continuing, step, die)
            pretrain(run, hindi)
    # It trains no more: the candidate and its text are there already.
    capsys.readouterr()
    pretrain(run, tmp_path / "gone", max_steps=1)
    assert f"--data {tmp_path / 'gone'} is not read now" in capsys.readouterr().out
    assert run.head == unbroken.head
    assert run.text("hi") == unbroken.text("hi")
    assert Readings(run.ledger.database).count("gate-1") == 1
    assert not list(run.folder.training_state.iterdir())


def test_held_out_text_is_not_trained_on(run: Run, tmp_path: Path) -> None:
    sets = HoldOuts(run.folder, run.ledger.database)
    secret = [read_holdout(sets.path(one.name)).documents["hi"][0] for one in sets.all()]
    fresh = Document("own", "hi", "यह वाक्य किसी और पाठ में नहीं है, क्योंकि इसे अभी लिखा गया है।")
    mixed = Document("mixed", "hi", f"{fresh.text}\n{secret[1].text}")
    data = folder_of(tmp_path / "data", "hi", (*secret, mixed))
    new = continuing.new_text(run.folder, run.ledger, str(data))
    assert [document.text for document in new["hi"]] == [fresh.text]


def test_an_open_round_ends_only_when_the_head_moves(run: Run, hindi: Path) -> None:
    current = run.ledger.begin_round(parent=run.head, seed=1, closes_at=0.0)
    hand_in(run, "cd" * 32)
    with pytest.raises(RoundError):
        pretrain(run, hindi, replay_share=0.0)
    assert run.ledger.round(current.number).state is RoundState.OPEN
    pretrain(run, hindi)
    assert run.ledger.round(current.number).state is RoundState.ABORTED
    found = run.ledger.adapter("cd" * 32)
    assert found is not None and found.reason.startswith("STALE_BASE")


def test_without_new_text_the_run_s_own_is_trained_on(run: Run) -> None:
    parent = run.head
    # Text of a candidate whose "no" was killed halfway.
    left = run.folder.training_state / "new-text-0123456789ab.jsonl"
    left.parent.mkdir(exist_ok=True)
    left.write_text("")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    pretrain(run, None)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not left.exists()
    about = packages.read_manifest(run.folder.package(run.head)).about
    assert about["parent"] == parent and sorted(about["data"]) == ["hi", "ta"]
    assert about["replayed"] == {} and about["settings"]["replay_share"] == 0.0


def test_wrong_input_is_named(run: Run, hindi: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bn.jsonl is in no language of the run"):
        pretrain(run, folder_of(tmp_path / "a", "bn", build(["bn"], 1).documents["bn"][:3]))
    with pytest.raises(DataError, match="has no running text"):
        pretrain(run, tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"replay share of 1.0"):
        pretrain(run, hindi, replay_share=1.0)
    with run.folder.hold(), pytest.raises(UsageError, match="another coordinator"):
        pretrain(run, hindi)
