"""Which round's shards a donor trains on, and with which seed, for each base revision.

The first deal on a base stays: rounds that come to nothing do not make a half-trained adapter
worthless, nor does a donor that was away. Only a final no on it deals anew, in a later round. Kept
in the state folder. Knows no shards and no network.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from seshu_swarm.packages import write_whole

logger = logging.getLogger(__name__)

FILE = "deals.json"
MAX_DEALS = 16


@dataclass(frozen=True)
class Deal:
    """`round_index` deals the shards; `tries` were rejected before it and change the seed.

    `rejected_in`: the round that said no to what came of it, if one did.
    """

    round_index: int
    tries: int = 0
    rejected_in: int | None = None

    def in_round(self, round_index: int) -> Deal:
        """This deal still, or, after a no in an earlier round, another one."""
        if self.rejected_in is None or round_index <= self.rejected_in:
            return self
        return Deal(round_index, self.tries + 1)


class Deals:
    """The deals of this machine, by base revision; the newest MAX_DEALS are kept."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / FILE

    def of(self, revision: str, round_index: int) -> Deal:
        """The deal to train on now; noted. Raises ResourceError, DiskFullError."""
        noted = self._read().get(revision)
        deal = noted.in_round(round_index) if noted else Deal(round_index)
        if deal != noted:
            self._note(revision, deal)
        return deal

    def reject(self, revision: str, deal: Deal, round_index: int) -> None:
        """A round said a final no to the adapter of this deal."""
        self._note(revision, replace(deal, rejected_in=round_index))

    def _read(self) -> dict[str, Deal]:
        try:
            table = json.loads(self._file.read_bytes())
            return {str(revision): _deal_of(facts) for revision, facts in table.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning("%s cannot be read, shards are dealt anew: %s", self._file, error)
            return {}

    def _note(self, revision: str, deal: Deal) -> None:
        deals = self._read()
        deals.pop(revision, None)  # the newest last
        kept = list((deals | {revision: deal}).items())[-MAX_DEALS:]
        table = {name: asdict(one) for name, one in kept}
        write_whole(self._file, json.dumps(table).encode())


def _deal_of(facts: dict[str, int | None]) -> Deal:
    deal = Deal(**facts)  # type: ignore[arg-type]
    known = (deal.round_index, deal.tries, deal.rejected_in or 0)
    if not all(type(number) is int and number >= 0 for number in known):
        raise ValueError(f"a deal of {facts}")
    return deal
