"""A report has a place before anything is measured for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from seshu_swarm.errors import UsageError
from seshu_swarm.program.reports import check_place, write_report


@dataclass(frozen=True)
class Settings:
    seed: int = 3


@pytest.mark.parametrize("where", ["report.json", "new/folder/report.json"])
def test_a_report_is_written_where_it_may_be(tmp_path: Path, where: str) -> None:
    check_place(tmp_path / where)
    write_report(
        tmp_path / where, command="bench", settings=Settings(), rows=[{"a": 1}], results={"x": 2.5}
    )
    table = json.loads((tmp_path / where).read_text())
    assert table["rows"] == [{"a": 1}] and table["results"] == {"x": 2.5}
    assert table["settings"] == {"seed": 3} and table["machine"]["cores"] > 0


def test_a_folder_or_a_file_as_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for where in (tmp_path, tmp_path / "file" / "report.json", Path("/proc/new/report.json")):
        with pytest.raises(UsageError, match=r"no report can be written to .*--report report.json"):
            check_place(where)
