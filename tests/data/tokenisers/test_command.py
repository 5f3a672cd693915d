"""`data tokeniser` on real files: what is trained, what is held out, what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seshu_swarm.data import phrasebook
from seshu_swarm.data.catalogue import write_catalogue
from seshu_swarm.data.tokenisers.config import DataTokeniserConfig
from seshu_swarm.data.tokenisers.run import run
from seshu_swarm.data.tokenisers.texts import Texts
from seshu_swarm.errors import DataError, UsageError


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus, folder = phrasebook.build(["hi", "en"], 0), tmp_path_factory.mktemp("catalogue")
    rows = {language: corpus.rows[language][:200] for language in ("hi", "en")}
    documents = {language: corpus.documents[language][:100] for language in ("hi", "en")}
    write_catalogue(folder, rows, documents=documents)
    return folder


def test_parts_share_all_texts_out(catalogue: Path) -> None:
    texts = Texts(catalogue)
    train, held_out = list(texts.of("train")), list(texts.of("held-out"))
    assert len(train) + len(held_out) == 600
    assert 0.02 < len(held_out) / 600 < 0.09  # one in twenty
    assert not set(train) & set(held_out)
    assert {language for language, _ in train} == {"hi", "en"}
    limited = Texts(catalogue, ["hi"], bytes_per_language=500)
    found = list(limited.of("train"))
    sizes = [len(text.encode()) for _, text in found]
    assert sum(sizes[:-1]) < 500 <= sum(sizes) == limited.num_bytes["hi"]
    assert {language for language, _ in found} == {"hi"}


def test_a_tokeniser_is_trained_and_measured(
    catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "pieces", tmp_path / "report.json"
    settings = DataTokeniserConfig(
        source=str(catalogue), out=str(out), vocab_size=600, json=str(report)
    )
    assert run(settings) == 0
    table = json.loads(report.read_text())
    assert table["vocab_size"] == 600 and set(table["bytes"]) == {"hi", "en"}
    for language in ("hi", "en"):
        ours, of_bytes = (table["fertility"][name][language] for name in (str(out), "bytes"))
        assert of_bytes["bytes_per_token"] == 1.0 and of_bytes["tokens"] == of_bytes["bytes"]
        assert ours["bytes_per_token"] > 1.5 and ours["changed"] == 0
    assert "bytes/token" in capsys.readouterr().out
    again = DataTokeniserConfig(source=str(catalogue), compare=(str(out),))
    assert run(again) == 0


def test_wrong_settings_are_named(catalogue: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--kind 'words'"):
        DataTokeniserConfig(source="x", kind="words")
    with pytest.raises(UsageError, match="--vocab-size 10"):
        DataTokeniserConfig(source="x", vocab_size=10)
    with pytest.raises(DataError, match="no text in 'ta'"):
        run(
            DataTokeniserConfig(
                source=str(catalogue), out=str(tmp_path), vocab_size=300, languages=("hi", "ta")
            )
        )
    with pytest.raises(DataError, match="is not there"):
        run(DataTokeniserConfig(source=str(tmp_path / "nowhere"), out=str(tmp_path)))
