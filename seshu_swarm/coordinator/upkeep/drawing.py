"""New held-out sets from text that nobody has seen: not donors, not pretraining, no other set.

A gate and a final set each time, and a tuning set where the run would have none; as large as the last
sets of their roles. They are committed to at once; the first of a role without a set in use is in use,
others wait in reserve.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.coordinator.pretraining.text import run_text
from seshu_swarm.coordinator.state.hold_outs import HeldOutSet, HoldOuts, Role, SetState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.catalogue import read_pretrain_shard, read_shard
from seshu_swarm.data.decontaminate import clean
from seshu_swarm.data.folder import read_folder
from seshu_swarm.data.groups import Item
from seshu_swarm.data.holdout import Holdout, read_holdout
from seshu_swarm.data.splits import SplitSizes, split
from seshu_swarm.data.text import Corpus, Document, Row
from seshu_swarm.errors import DataError

ALWAYS_DRAWN = (Role.GATE, Role.FINAL)
SECRET_BYTES = 32
LEAST_SHARE = 0.9  # of the last set's items: near copies fall out of the new one
MAX_HELD_SHARE = 0.9
DRAWS = 5


def draw(
    folder: RunFolder, ledger: Ledger, data: Path, *, retiring: str | None = None
) -> list[HeldOutSet]:
    """Draw, keep and commit to the new sets; the set named `retiring` counts as gone.

    Raises DataError where the text is too little.
    """
    languages: list[str] = ledger.fact("languages")
    sets = HoldOuts(folder, ledger.database)
    earlier = {
        role: read_holdout(sets.path(_last(sets, role).name))
        for role in drawn_roles(sets, retiring)
    }
    unknown = _unknown(folder, ledger, read_folder(data, languages))
    drawn = _draw_full(data, unknown, languages, earlier)
    return [sets.add(role, holdout) for role, holdout in drawn.items()]


def _draw_full(
    data: Path, unknown: Corpus, languages: Sequence[str], earlier: Mapping[Role, Holdout]
) -> dict[Role, Holdout]:
    """Sets as large as the last ones. Raises DataError where no draw gives them.

    Which near copies fall out of a set is chance: of 200 draws of small sets 10 lacked a document.
    """
    for left in reversed(range(DRAWS)):
        secret = secrets.token_bytes(SECRET_BYTES)
        parts = split(unknown, languages=languages, secret=secret, sizes=_sizes(earlier))
        drawn: dict[Role, Holdout] = {role: getattr(parts, role) for role in earlier}
        try:
            for role, last in earlier.items():
                _check(data, role, drawn[role], last)
        except DataError:
            if not left:
                raise
        else:
            break
    return drawn


def drawn_roles(sets: HoldOuts, retiring: str | None) -> list[Role]:
    """Gate and final, and every role without a set that is in use or waits, `retiring` aside."""
    left = {
        one.role for one in sets.all() if one.state is not SetState.RETIRED and one.name != retiring
    }
    return [role for role in Role if role in ALWAYS_DRAWN or role not in left]


def _unknown(folder: RunFolder, ledger: Ledger, found: Corpus) -> Corpus:
    """What of a corpus nobody has seen."""
    items: list[Item] = [item for rows in found.rows.values() for item in rows]
    items += [item for documents in found.documents.values() for item in documents]
    kept, _ = clean(items, known_items(folder, ledger))
    return Corpus.of(
        (item for item in kept if isinstance(item, Document)),
        (item for item in kept if isinstance(item, Row)),
    )


def known_items(folder: RunFolder, ledger: Ledger) -> list[Item]:
    """All that somebody has seen or may see: the catalogue, the running text, every held-out set."""
    sets = HoldOuts(folder, ledger.database)
    known: list[Item] = []
    for one in sets.all():
        known += read_holdout(sets.path(one.name)).items()
    for documents in run_text(folder).values():
        known += documents
    catalogue = folder.package(ledger.fact("catalogue"))
    for name in packages.read_manifest(catalogue).files:
        is_running_text = name.startswith("pretrain-")
        known += (read_pretrain_shard if is_running_text else read_shard)(catalogue / name)
    return list({item.digest: item for item in known}.values())


def _last(sets: HoldOuts, role: Role) -> HeldOutSet:
    return [one for one in sets.all() if one.role is role][-1]


def _sizes(earlier: Mapping[Role, Holdout]) -> SplitSizes:
    """A role that is not drawn gets nothing."""
    most = dict.fromkeys(Role, (0, 0)) | {
        role: (_most(list(last.rows.values())), _most(list(last.documents.values())))
        for role, last in earlier.items()
    }
    return SplitSizes(
        tuning_rows=most[Role.TUNING][0],
        tuning_documents=most[Role.TUNING][1],
        gate_rows=most[Role.GATE][0],
        gate_documents=most[Role.GATE][1],
        final_rows=most[Role.FINAL][0],
        final_documents=most[Role.FINAL][1],
        minimum_rows=1,
        minimum_documents=1,
        max_held_share=MAX_HELD_SHARE,
    )


def _most(found: Sequence[Sequence[Item]]) -> int:
    return max((len(items) for items in found), default=0)


def _check(data: Path, role: Role, drawn: Holdout, earlier: Holdout) -> None:
    """Every language has about as many items as in the last set. Raises DataError."""
    for kind, new, old in (
        ("rows", drawn.rows, earlier.rows),
        ("documents", drawn.documents, earlier.documents),
    ):
        for language, items in old.items():
            count = len(new.get(language, ()))
            if count < LEAST_SHARE * len(items):
                raise DataError(
                    f"{data} gives the new {role} set {count} {kind} in {language}",
                    rule=f"the last one has {len(items)}: a smaller set finds less",
                    way_out=f"give more {kind} in {language} that the run has not seen",
                )
