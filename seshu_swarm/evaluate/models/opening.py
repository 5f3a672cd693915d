"""A model by the path of its folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.evaluate.models.base import ScoredModel
from seshu_swarm.evaluate.models.ours import OurModel

CONFIG = "config.json"
DIGEST = re.compile("[0-9a-f]{64}")
SHORT_DIGEST = 12
OUR_TYPES = frozenset({"mamba", "seshu_mamba"})


def open_model(place: str) -> ScoredModel:
    """Our layout in our engine, everything else in transformers.

    Raises UsageError for what is no folder, PackageError for a folder without a model.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise _no_folder(place)
    name = shown_name(folder)
    if _model_type(folder) in OUR_TYPES:
        return OurModel.open(folder, name)
    from seshu_swarm.evaluate.models.hugging import HuggingModel

    return HuggingModel.open(folder, name)


def shown_name(folder: Path) -> str:
    """The folder's name; of a revision's digest the first twelve letters."""
    name = folder.resolve().name
    return name[:SHORT_DIGEST] if DIGEST.fullmatch(name) else name


def _no_folder(place: str) -> UsageError:
    is_hub_id = place.count("/") == 1 and not place.startswith((".", "/", "~"))
    way_out = "check the path"
    if is_hub_id:
        way_out = f"fetch it first: hf download {place} --local-dir {place.split('/')[1]}"
    return UsageError(
        f"{place!r} is no model folder on this machine",
        rule="models are scored from a folder; nothing is downloaded here",
        way_out=way_out,
    )


def _model_type(folder: Path) -> str:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(
            f"{folder} has no {CONFIG} with a model_type ({error})"[:300],
            rule="a model folder has one, as transformers saves it",
            way_out="check the path of the folder",
        ) from None
