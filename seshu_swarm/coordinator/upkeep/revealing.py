"""`coordinator reveal`: retired held-out sets with their salts, so that anyone can check them.

A commitment was published before a set was first read; what is revealed shows that the exam was not
changed. A revealed set is a package that the swarm may fetch, and a file in `revealed/`. With
`--check` anyone checks one, without a run; with `--draw` the run gets new sets (`drawing`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState
from seshu_swarm.coordinator.state.hold_outs import HeldOutSet, HoldOuts, SetState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep.config import RevealConfig
from seshu_swarm.coordinator.upkeep.drawing import draw
from seshu_swarm.data.holdout import commitment, read_holdout
from seshu_swarm.errors import DigestError, UsageError
from seshu_swarm.program import log

KIND = "held-out"
FACT = "revealed"  # name of each revealed set → digest of its package
CHECK = "python -m seshu_swarm.coordinator reveal --check {name}.jsonl --salt {salt} --commitment {commitment}"


def run(settings: RevealConfig) -> int:
    if settings.check is not None:
        return check(Path(settings.check), str(settings.salt), str(settings.commitment))
    folder = RunFolder.of(settings.state_dir)
    folder.must_exist()
    with folder.hold():
        ledger = Ledger(folder.ledger)
        if settings.draw is not None:
            for drawn in draw(folder, ledger, Path(settings.draw), retiring=settings.set):
                text = f"drew {drawn.name} ({drawn.state}): commitment {drawn.commitment}"
                facts = {"hold_out": drawn.name, "commitment": drawn.commitment}
                log.event("drawn", text, state=str(drawn.state), **facts)
        if settings.set is not None:
            retire(folder, ledger, settings.set, without_reserve=settings.yes)
        if settings.set is not None or settings.draw is None:
            _reveal_all(folder, ledger)
    return 0


def check(file: Path, salt: str, published: str) -> int:
    """Recompute a commitment. Raises DigestError where it is another, DataError, UsageError."""
    try:
        salt_bytes = bytes.fromhex(salt)
    except ValueError:
        raise UsageError(f"--salt {salt[:80]!r}", rule="bytes as hexadecimal digits") from None
    found = commitment(read_holdout(file), salt_bytes)
    if found != published:
        raise DigestError(
            f"{file} with this salt gives {found}",
            rule=f"{published} was published",
            way_out="one of the three is not what the run committed to",
        )
    log.event("checked", f"{file} is the set that was committed to: {found}", commitment=found)
    return 0


def retire(folder: RunFolder, ledger: Ledger, name: str, *, without_reserve: bool) -> None:
    """Take a set out of use; one that is retired already stays so. Raises UsageError."""
    sets = HoldOuts(folder, ledger.database)
    by_name = {one.name: one for one in sets.all()}
    if name not in by_name:
        raise UsageError(f"no held-out set {name!r}", way_out=f"one of {', '.join(by_name)}")
    found = by_name[name]
    if found.state is SetState.RETIRED:
        return
    _must_be_retirable(ledger, found)
    reserve = [s for s in by_name.values() if (s.role, s.state) == (found.role, SetState.RESERVE)]
    if not reserve and not without_reserve:
        raise UsageError(
            f"{name} is in use, and no other {found.role} set is in reserve",
            rule="without one no round can be decided",
            way_out="draw one first (--draw FOLDER), or say --yes",
        )
    sets.retire(name)


def _must_be_retirable(ledger: Ledger, found: HeldOutSet) -> None:
    if found.state is SetState.RESERVE:
        raise UsageError(
            f"{found.name} waits in reserve and was never read",
            rule="a set is revealed once it is retired",
            way_out="name the set in use: coordinator status",
        )
    rounds = ledger.rounds()
    if rounds and rounds[-1].state not in ENDED and rounds[-1].state is not RoundState.OPEN:
        raise UsageError(
            f"round {rounds[-1].number} is being decided ({rounds[-1].state})",
            rule="a round is decided on the sets that it began with",
            way_out="let coordinator run finish it first",
        )


def _reveal_all(folder: RunFolder, ledger: Ledger) -> None:
    sets = HoldOuts(folder, ledger.database)
    retired = [one for one in sets.all() if one.state is SetState.RETIRED]
    if not retired:
        log.event("revealed", "no set is retired: nothing to reveal; see --set and --draw")
    for one in retired:
        digest = reveal(folder, ledger, one)
        line = CHECK.format(name=one.name, salt=one.salt, commitment=one.commitment)
        text = (
            f"revealed {one.name}: package {digest}\n  {folder.revealed / one.name}.jsonl\n  {line}"
        )
        log.event("revealed", text, hold_out=one.name, digest=digest, salt=one.salt, check=line)


def reveal(folder: RunFolder, ledger: Ledger, one: HeldOutSet) -> str:
    """Make a retired set a package and a file in `revealed/`; the package's digest."""
    fresh = folder.packages / "revealing"
    shutil.rmtree(fresh, ignore_errors=True)
    name = f"{one.name}.jsonl"
    data = HoldOuts(folder, ledger.database).path(one.name).read_bytes()
    packages.write_whole(fresh / name, data)
    about = {"name": one.name, "role": one.role, "salt": one.salt, "commitment": one.commitment}
    digest = packages.seal(fresh, KIND, [name], about)
    packages.publish_folder(fresh, folder.package(digest))
    line = CHECK.format(name=one.name, salt=one.salt, commitment=one.commitment)
    packages.write_whole(folder.revealed / name, data)
    packages.write_whole(folder.revealed / f"{one.name}.txt", f"{line}\n".encode())
    ledger.set_fact(FACT, (ledger.fact(FACT) or {}) | {one.name: digest})
    return digest
