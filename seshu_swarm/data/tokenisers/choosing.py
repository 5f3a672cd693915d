"""A tokeniser by what a person calls it: `bytes`, or the folder of a trained one."""

from __future__ import annotations

from pathlib import Path

from seshu_swarm.data.tokeniser import ByteTokeniser, Tokeniser
from seshu_swarm.data.tokenisers.trained import PIECES, TrainedTokeniser
from seshu_swarm.errors import DataError

BYTES = "bytes"


def tokeniser_of(name: str) -> Tokeniser:
    """Raises DataError for what is neither."""
    if name == BYTES:
        return ByteTokeniser()
    folder = Path(name).expanduser()
    if not folder.exists():
        raise DataError(
            f"there is no tokeniser {name!r}",
            rule=f"{BYTES}, or a folder with {PIECES}",
            way_out="train one with `data tokeniser`",
        )
    return TrainedTokeniser.load(folder)
