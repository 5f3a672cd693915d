"""The public ledger: what a run's dashboard shows beyond records, as a package for everybody.

The coordinator seals it when something has changed and names its digest in a signed record. One JSON
file of bounded size: of very many rounds, the oldest lose their verdicts first. Pure but for files.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from seshu_swarm.dashboard.snapshot import Checkpoint, Donor, Round, Snapshot, Training
from seshu_swarm.errors import PackageError
from seshu_swarm.packages import Manifest

KIND, FILE = "ledger", "ledger.json"
MAX_BYTES = 4 << 20
MAX_ROUNDS, MAX_DONORS, MAX_CHECKPOINTS = 1_000, 500, 1_000
# How many of the newest rounds keep their verdicts: the first of these that fits.
KEPT_VERDICTS = (100, 30, 10, 0)


@dataclass(frozen=True)
class PublicLedger:
    """Parts of a `Snapshot`, in the same order."""

    training: Training | None
    rounds: tuple[Round, ...]
    donors: tuple[Donor, ...]
    checkpoints: tuple[Checkpoint, ...]

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True).encode("utf-8")


_LEDGER: TypeAdapter[PublicLedger] = TypeAdapter(PublicLedger)


def ledger_of(snapshot: Snapshot) -> bytes:
    """The public ledger as its file has it. Raises PackageError where nothing of it fits."""
    checkpoints = [replace(one, files=()) for one in snapshot.checkpoints[:MAX_CHECKPOINTS]]
    for kept in KEPT_VERDICTS:
        rounds = snapshot.rounds[-MAX_ROUNDS:]
        first = len(rounds) - kept
        found = PublicLedger(
            snapshot.training,
            tuple(replace(r, verdicts=()) if k < first else r for k, r in enumerate(rounds)),
            snapshot.donors[:MAX_DONORS],
            tuple(checkpoints),
        )
        if len(data := found.to_bytes()) <= MAX_BYTES:
            return data
    raise PackageError(f"a public ledger of {len(data)} bytes", rule=f"at most {MAX_BYTES}")


def only_a_ledger(manifest: Manifest) -> None:
    """What a reader fetches: one file of bounded size. Raises PackageError."""
    if manifest.kind != KIND or set(manifest.files) != {FILE} or manifest.size_bytes > MAX_BYTES:
        raise PackageError(
            f"a package of kind {manifest.kind[:40]!r} with {manifest.size_bytes} bytes",
            rule=f"a ledger is one file {FILE} of at most {MAX_BYTES} bytes",
        )


def read_ledger(folder: Path) -> PublicLedger:
    """Raises PackageError."""
    try:
        with (folder / FILE).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        return _LEDGER.validate_json(data)
    except (OSError, ValidationError) as error:
        raise PackageError(f"the public ledger is not readable: {error}"[:300]) from None
