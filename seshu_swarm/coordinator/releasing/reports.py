"""The reports that rounds leave in the run's folder, read back and checked.

Papers are made from them again and again, also by later releases of this program, so a file that
was cut off or changed by hand is named here, not met somewhere in the middle of a card.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seshu_swarm.errors import PackageError, from_os_error

Report = Mapping[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Change(_Strict):
    low: float
    high: float


class _Numbers(_Strict):
    before: float
    after: float
    change: _Change


class _Verdict(_Strict):
    digest: str
    language: str
    accepted: bool
    reason: str
    gain: str


class _Recipe(_Strict):
    method: str
    lam: float = Field(alias="lambda")
    adapters: list[tuple[str, float]]
    settings: dict[str, float] = {}


class _Ended(_Strict):
    """Any round; `state` says whether it has the rest."""

    round: int
    state: Literal["published", "aborted"]
    parent: str


class _Published(_Ended):
    revision: str
    languages: dict[str, _Numbers]
    adapters: list[_Verdict]
    recipe: _Recipe


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """Reports of all rounds that have ended, by round. Raises PackageError, ResourceError."""
    reports = [_read(path) for path in folder.glob("round-*.json")]
    return sorted(reports, key=lambda report: int(report["round"]))


def reports_until(folder: Path, number: int) -> list[dict[str, Any]]:
    """Those up to round `number`, which must be the last. Raises PackageError, ResourceError."""
    until = [report for report in read_reports(folder) if report["round"] <= number]
    if not until or until[-1]["round"] != number or until[-1]["state"] != "published":
        raise PackageError(
            f"round {number} has no report of a release in {folder}",
            rule="a release's card is made from its round's report",
            way_out="start the coordinator again: it writes a missing report from its ledger",
        )
    return until


def published(reports: Iterable[Report]) -> list[Report]:
    return [report for report in reports if report["state"] == "published"]


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
        if _Ended.model_validate_json(data).state == "published":
            _Published.model_validate_json(data)
        report: dict[str, Any] = json.loads(data)
    except OSError as error:
        raise from_os_error(error, str(path)) from error
    except ValidationError as error:
        raise _broken(path, _first(error)) from None
    except ValueError as error:
        raise _broken(path, str(error)) from None
    return report


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, found['loc'])) or 'it'}: {found['msg']}"


def _broken(path: Path, why: str) -> PackageError:
    return PackageError(
        f"{path} is no report: {why}"[:300],
        rule="a report is written whole when its round ends",
        way_out="move it away: the next start writes it again from the ledger",
    )
