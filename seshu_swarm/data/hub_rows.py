"""Rows of a data set on the Hub, one by one as they arrive: nothing of it is kept on this machine.

The library reads HF_ENDPOINT and its other switches when it is imported, which is when the first
row is asked for. Knows no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from seshu_swarm.data.own_files import Lines
from seshu_swarm.errors import DataError

# Pairs of English and eleven Indian languages; each language is a subset.
SAMANANTAR = "ai4bharat/samanantar"
LICENCES = {SAMANANTAR: "CC-BY-NC-4.0"}


@dataclass(frozen=True)
class Part:
    """Which rows of a data set: its split, and its subset (the Hub's *configuration*), if any.

    `should_stop` is asked before every row; the rows end where it says so.
    """

    split: str = "train"
    subset: str = ""
    should_stop: Callable[[], bool] = lambda: False


def licence_of(name: str) -> str | None:
    """The licence of a data set that is known to bind what is trained on it, or None."""
    return LICENCES.get(name.lower())


def subset_of(name: str, language: str, part: Part) -> Part:
    """The part with its subset: of Samanantar it is the language, unless one is named."""
    if name.lower() == SAMANANTAR and not part.subset:
        return replace(part, subset=language)
    return part


def stream_dataset(name: str, part: Part | None = None) -> Lines:
    """Rows of a data set on the Hub (or of a local folder, the library's own way), one by one.

    Raises DataError naming the data set and what the library said.
    """
    import datasets

    part = part or Part()
    try:
        tables: Iterable[Mapping[str, Any]] = datasets.load_dataset(
            name, part.subset or None, split=part.split, streaming=True
        )
        for numbered in enumerate(tables, start=1):
            if part.should_stop():
                return
            yield numbered
    except Exception as error:  # the library raises its own, the Hub's and pyarrow's errors
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"data set {name!r} cannot be read: {said[:300]}",
            rule=f"it needs a public split {part.split!r}"
            + (f" in the subset {part.subset!r}" if part.subset else ""),
            way_out="check the name, --split and --subset, and the connection; or download it and "
            "give the folder",
        ) from error
