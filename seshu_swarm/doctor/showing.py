"""What people see of the findings. Text from elsewhere is shown as text, never as markup."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from seshu_swarm import __version__
from seshu_swarm.doctor.findings import Finding, Grade, exit_code

STYLES = {Grade.PASS: "green", Grade.WARN: "yellow", Grade.FAIL: "bold red"}


def show(findings: Sequence[Finding], console: Console) -> None:
    table = Table("", "check", "what was found", "what to do", title="seshu doctor")
    for finding in findings:
        grade = Text(finding.grade.value, STYLES[finding.grade])
        table.add_row(grade, *(Text(printable(x)) for x in _texts(finding)))
    console.print(table)
    counts = {g: sum(f.grade is g for f in findings) for g in Grade}
    console.print(", ".join(f"{count} {grade.value}" for grade, count in counts.items()))


def _texts(finding: Finding) -> tuple[str, str, str]:
    return finding.name, finding.what, finding.way_out


def printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)


def to_json(findings: Sequence[Finding]) -> str:
    """One object: the version, whether nothing failed, and each finding by its fields."""
    table = {
        "version": __version__,
        "passed": exit_code(findings) == 0,
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(table, ensure_ascii=False)
