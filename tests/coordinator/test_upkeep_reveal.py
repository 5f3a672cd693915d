"""Retired sets are revealed so that anyone can check them; new ones share no text with what is known."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shlex
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from seshu_swarm import packages
from seshu_swarm.coordinator import __main__ as commands
from seshu_swarm.coordinator.config import OpenConfig
from seshu_swarm.coordinator.opening import command as opening
from seshu_swarm.coordinator.releasing.mirror import held_by
from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.hold_outs import HoldOuts, Role, SetState
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep import revealing
from seshu_swarm.coordinator.upkeep.config import RevealConfig
from seshu_swarm.coordinator.upkeep.drawing import known_items
from seshu_swarm.data.holdout import read_holdout
from seshu_swarm.data.jsonl import document_line, row_line
from seshu_swarm.data.phrasebook import build
from seshu_swarm.data.text import Corpus
from seshu_swarm.errors import DataError, DigestError, RoundError, UsageError
from tests.coordinator.runs import Run

LANGUAGES = ("hi", "ta")


def write_corpus(path: Path, corpus: Corpus) -> Path:
    for part in ("pretrain", "sft"):
        (path / part).mkdir(parents=True)
    for language in corpus.languages:
        documents = "".join(document_line(d) for d in corpus.documents[language])
        rows = "".join(row_line(row) for row in corpus.rows[language])
        (path / "pretrain" / f"{language}.jsonl").write_text(documents, encoding="utf-8")
        (path / "sft" / f"{language}.jsonl").write_text(rows, encoding="utf-8")
    return path


def half(corpus: Corpus, k: int) -> Corpus:
    return Corpus(
        {name: found[k::2] for name, found in corpus.documents.items()},
        {name: found[k::2] for name, found in corpus.rows.items()},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run opened on one half of the phrasebook, and the folder of the other half."""
    path = tmp_path_factory.mktemp("reveal")
    corpus = build(LANGUAGES, 0)
    settings = OpenConfig(
        state_dir=str(path / "state"),
        data=str(write_corpus(path / "first", half(corpus, 0))),
        languages=LANGUAGES,
        hold_out_rows=80,
        hold_out_documents=16,
    )
    with mock.patch.object(secrets, "token_bytes", Random(0).randbytes):
        opening.run(settings)
    return Run(RunFolder(path / "state")), write_corpus(path / "second", half(corpus, 1))


@pytest.fixture
def run(made: tuple[Run, Path], tmp_path: Path) -> Run:
    return made[0].copy(tmp_path / "state")


@pytest.fixture
def more_text(made: tuple[Run, Path]) -> Path:
    return made[1]


def sets_of(run: Run) -> HoldOuts:
    return HoldOuts(run.folder, run.ledger.database)


def reveal(run: Run, **settings: str | bool) -> int:
    return revealing.run(RevealConfig(state_dir=str(run.folder.path), **settings))  # type: ignore[arg-type]


def test_a_revealed_set_gives_its_commitment_to_anyone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = sets_of(run).in_use(Role.GATE).commitment
    assert reveal(run, set="gate-1", yes=True) == 0
    digest = run.ledger.fact("revealed")["gate-1"]
    manifest = packages.verify(run.folder.package(digest), digest)
    assert digest in held_by(run.folder, run.ledger)  # so `run` announces and gives it
    assert (manifest.kind, manifest.about["commitment"]) == ("held-out", published)
    # Recomputed from the file's lines alone, by the definition.
    lines = (run.folder.package(digest) / "gate-1.jsonl").read_text(encoding="utf-8").splitlines()
    digests = []
    for table in map(json.loads, lines):
        keys = ("language", "text") if "text" in table else (
            "instruction", "input", "output", "language")  # fmt: skip
        kind = "document" if "text" in table else "row"
        content = json.dumps([kind, *(table[key] for key in keys)], ensure_ascii=True)
        digests.append(hashlib.sha256(content.encode()).hexdigest())
    text = "\n".join([manifest.about["salt"], *sorted(digests)])
    assert hashlib.sha256(text.encode()).hexdigest() == published
    # The line that is printed does the same, where there is no run.
    out = capsys.readouterr().out
    [line] = re.findall(r"python -m seshu_swarm.coordinator (reveal --check .*)", out)
    assert line in (run.folder.revealed / "gate-1.txt").read_text(encoding="utf-8")
    monkeypatch.chdir(run.folder.revealed)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setattr("sys.argv", ["coordinator", *shlex.split(line)])
    assert commands.main() == 0


def test_only_retired_sets_are_revealed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert reveal(run) == 0
    assert "nothing to reveal" in capsys.readouterr().out
    assert not run.folder.revealed.exists()
    sets = sets_of(run)
    sets.retire("tuning-1")
    assert reveal(run) == 0
    assert [path.name for path in sorted(run.folder.revealed.iterdir())] == [
        "tuning-1.jsonl",
        "tuning-1.txt",
    ]
    secret = {one.salt for one in sets.all() if one.state is not SetState.RETIRED}
    said = capsys.readouterr().out
    assert not any(salt in said for salt in secret)
    before = run.ledger.fact("revealed")
    assert reveal(run) == 0 and run.ledger.fact("revealed") == before


def test_a_changed_set_does_not_pass(run: Run, tmp_path: Path) -> None:
    one = sets_of(run).in_use(Role.FINAL)
    lines = sets_of(run).path(one.name).read_text(encoding="utf-8").splitlines()
    changed = tmp_path / "final-1.jsonl"
    changed.write_text("\n".join(lines[1:]), encoding="utf-8")
    with pytest.raises(DigestError, match=f"{one.commitment} was published"):
        revealing.check(changed, one.salt, one.commitment)
    changed.write_text("\n".join(reversed(lines)), encoding="utf-8")
    assert revealing.check(changed, one.salt, one.commitment) == 0
    with pytest.raises(DigestError):
        revealing.check(changed, "00" * 32, one.commitment)
    with pytest.raises(UsageError, match="hexadecimal"):
        revealing.check(changed, "salt", one.commitment)
    changed.write_text("no json\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1"):
        revealing.check(changed, one.salt, one.commitment)


def test_new_sets_are_as_large_and_share_no_text_with_what_is_known(
    run: Run, more_text: Path
) -> None:
    known = known_items(run.folder, run.ledger)
    assert reveal(run, draw=str(more_text)) == 0
    sets = sets_of(run)
    by_name = {one.name: one for one in sets.all()}
    assert by_name["gate-1"].state is SetState.IN_USE
    outputs = {item.output for item in known if hasattr(item, "output")}
    windows = {w for item in known if hasattr(item, "text") for w in windows_of(item.text)}
    for name, old in (("gate-2", "gate-1"), ("final-2", "final-1")):
        assert by_name[name].state is SetState.RESERVE
        drawn, earlier = read_holdout(sets.path(name)), read_holdout(sets.path(old))
        for language in LANGUAGES:
            assert len(drawn.rows[language]) >= 0.9 * len(earlier.rows[language])
            assert len(drawn.documents[language]) >= 0.9 * len(earlier.documents[language])
            assert not outputs & {row.output for row in drawn.rows[language]}
            for document in drawn.documents[language]:
                assert windows.isdisjoint(windows_of(document.text))
    # The next in use, when the old one is retired, is the one that waits.
    assert reveal(run, set="gate-1") == 0
    assert sets_of(run).in_use(Role.GATE).name == "gate-2"


def test_a_tuning_set_is_drawn_where_none_would_be_left(run: Run, more_text: Path) -> None:
    reveal(run, set="tuning-1", yes=True)
    with pytest.raises(RoundError, match="every tuning set of the run is retired"):
        sets_of(run).in_use(Role.TUNING)
    assert reveal(run, draw=str(more_text)) == 0
    sets = sets_of(run)
    assert sets.in_use(Role.TUNING).name == "tuning-2"
    assert [s.name for s in sets.all()][3:] == ["tuning-2", "gate-2", "final-2"]
    old, new = (read_holdout(sets.path(name)) for name in ("tuning-1", "tuning-2"))
    for language in LANGUAGES:
        assert len(new.rows[language]) >= 0.9 * len(old.rows[language])
    digests = [{i.digest for i in read_holdout(sets.path(s.name)).items()} for s in sets.all()]
    assert len(set().union(*digests)) == sum(len(found) for found in digests)


def test_drawn_and_retired_in_one_command(run: Run, more_text: Path) -> None:
    assert reveal(run, draw=str(more_text), set="tuning-1") == 0
    assert sets_of(run).in_use(Role.TUNING).name == "tuning-2"


def windows_of(text: str) -> set[str]:
    """Runs of 50 characters, which are 50 bytes or more."""
    words = " ".join(text.casefold().split())
    return {words[i : i + 50] for i in range(len(words) - 49)}


def test_text_that_is_known_already_gives_no_set(run: Run, made: tuple[Run, Path]) -> None:
    first = made[1].parent / "first"
    with pytest.raises(DataError, match=r"gives the new|without near copies|need"):
        reveal(run, draw=str(first))
    assert len(sets_of(run).all()) == 3


def test_wrong_input_is_named(run: Run, more_text: Path) -> None:
    with pytest.raises(UsageError, match=r"no held-out set 'gate-9'.*gate-1"):
        reveal(run, set="gate-9")
    with pytest.raises(UsageError, match=r"no other gate set is in reserve.*--yes"):
        reveal(run, set="gate-1")
    with pytest.raises(UsageError, match="belong together"):
        RevealConfig(check="file")
    with run.folder.hold(), pytest.raises(UsageError, match="another coordinator"):
        reveal(run)
    current = run.ledger.begin_round(parent="ab" * 32, seed=1, closes_at=0.0)
    for state in (RoundState.GATHERING, RoundState.CHECKING):
        run.ledger.move_round(current.number, state)
    with pytest.raises(UsageError, match=r"round 1 is being decided \(checking\)"):
        reveal(run, set="gate-1", yes=True)
    run.ledger.move_round(current.number, RoundState.ABORTED)
    reveal(run, draw=str(more_text))
    with pytest.raises(UsageError, match="waits in reserve"):
        reveal(run, set="gate-2")
