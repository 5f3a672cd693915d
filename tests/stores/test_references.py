"""A reference pins content, or is not followed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import UsageError
from seshu_swarm.stores import references
from seshu_swarm.stores.references import Reference

DIGEST, COMMIT = "ab" * 32, "0123456789" * 4


@pytest.mark.parametrize(
    "reference",
    [
        Reference.of_swarm(DIGEST),
        Reference("hf", f"owner/repo-1.x@{COMMIT}", DIGEST),
        Reference("file", "/some/folder with spaces/अ", DIGEST),
    ],
    ids=lambda reference: reference.scheme,
)
def test_round_trip(reference: Reference) -> None:
    assert references.parse(str(reference)) == reference


def test_a_folder_is_named_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(Reference.of_folder(Path("x"), DIGEST)) == f"file://{tmp_path}/x#sha256={DIGEST}"


def test_a_hub_reference_gives_repository_and_commit() -> None:
    parsed = references.parse(f"hf://owner/repo@{COMMIT}#sha256={DIGEST}")
    assert parsed.repository == ("owner/repo", COMMIT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"hf://owner/repo@main#sha256={DIGEST}",
        f"hf://owner/repo#sha256={DIGEST}",
        f"hf://owner/repo@{COMMIT[:-1]}#sha256={DIGEST}",
        f"hf://owner/repo@{COMMIT}",
        f"hf://owner/../repo@{COMMIT}#sha256={DIGEST}",
        f"swarm://sha256/{DIGEST[:-1]}",
        f"swarm://sha256/{DIGEST.upper()}",
        f"swarm://md5/{DIGEST}",
        f"file://relative#sha256={DIGEST}",
        f"file:///x\0y#sha256={DIGEST}",
        f"file:///x#sha256={DIGEST[:-1]}",
        f"https://example.org/x#sha256={DIGEST}",
    ],
)
def test_what_could_change_after_it_was_checked_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"pins no digest|is not one we follow"):
        references.parse(text)


@given(st.text() | st.text().map(lambda text: f"file:///{text}#sha256={DIGEST}"))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        parsed = references.parse(text)
    except UsageError:
        return
    assert references.parse(str(parsed)) == parsed
