"""`python -m seshu_swarm export`: where it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import pytest

from seshu_swarm import __main__
from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.program import cli


def export(*flags: str) -> int:
    return cli.main("seshu", __main__.COMMANDS, about="", arguments=["export", *flags])


@pytest.fixture
def nano(trained_nano: Path, tmp_path: Path) -> Path:
    """A copy: what lies beside it is this test's."""
    folder = tmp_path / "nano"
    shutil.copytree(trained_nano, folder)
    return folder


def test_gguf_beside_the_model(nano: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert export(str(nano), "--gguf", "--report", str(report)) == 0
    path = tmp_path / "nano.gguf"
    assert gguf.GGUFReader(path).fields["general.name"].contents() == "nano"
    results = json.loads(report.read_text())["results"]
    assert results["file_bytes"] == path.stat().st_size
    assert results["parameters"] == sum(int(t.n_elements) for t in gguf.GGUFReader(path).tensors)


def test_nothing_is_overwritten(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "x.gguf"
    there.write_bytes(b"mine")
    assert export(str(nano), "--gguf", "--out", str(there)) == UsageError.exit_code
    assert "give another place with --out" in capsys.readouterr().err
    assert there.read_bytes() == b"mine"


def test_wrong_input_is_named(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for flags, code, said in (
        ((str(nano),), UsageError.exit_code, "--gguf"),
        ((str(tmp_path / "none"), "--gguf"), UsageError.exit_code, "not there"),
        ((str(nano / "config.json"), "--gguf"), UsageError.exit_code, "is a file"),
        ((str(empty), "--gguf"), PackageError.exit_code, "no readable config.json"),
        (
            (str(nano), "--gguf", "--out", str(tmp_path / "a" / "b")),
            UsageError.exit_code,
            "make the folder first",
        ),
    ):
        assert export(*flags) == code
        assert said in capsys.readouterr().err


def test_a_model_of_other_tokens_is_refused(nano: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nano / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    assert export(str(nano), "--gguf") == PackageError.exit_code
    assert "only models of bytes" in capsys.readouterr().err
    for broken in ("[]", "{", '{"a": 1}', "\xff"):
        (nano / "tokenizer_config.json").write_text(broken, encoding="latin-1")
        assert export(str(nano), "--gguf") == PackageError.exit_code
        assert "tokenizer_config.json is not readable" in capsys.readouterr().err
