"""Which folder is exported, and where to. What is there already is never overwritten."""

from __future__ import annotations

import json
from pathlib import Path

from seshu_swarm import checkpoints
from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.mamba.shape import MambaShape

TOKENISER = "tokenizer_config.json"
BYTES = "ByT5Tokenizer"
MAX_TOKENISER_BYTES = 1 << 20


def source_of(given: str) -> tuple[Path, MambaShape]:
    """The folder and its sizes. Raises UsageError (no folder), PackageError (no checkpoint)."""
    folder = Path(given).expanduser()
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise UsageError(
            f"{given} is {what}",
            rule="a checkpoint is a folder with config.json and safetensors",
            way_out="give the folder that a round, `pretrain` or save_pretrained wrote",
        )
    return folder, checkpoints.read_shape(folder)


def must_be_of_bytes(folder: Path) -> None:
    """Raises PackageError where the folder says that its ids are not bytes."""
    path = folder / TOKENISER
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(MAX_TOKENISER_BYTES))["tokenizer_class"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PackageError(f"{path} is not readable: {error}"[:300]) from None
    if said != BYTES:
        raise PackageError(
            f"{path} names {said!r}"[:200],
            rule=f"{BYTES}: only models of bytes are exported to GGUF",
            way_out="export such a model with llama.cpp's own converter",
        )


def place_of(given: str | None, folder: Path, ending: str) -> Path:
    """Where to write: as told, or beside the folder. Raises UsageError where something is."""
    beside = folder.resolve()
    path = Path(given).expanduser() if given else beside.with_name(beside.name + ending)
    if path.exists() or path.is_symlink():
        raise UsageError(
            f"{path} is there already",
            rule="an export overwrites nothing",
            way_out="remove it, or give another place with --out",
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"--out {path}: {path.parent} is no folder", way_out="make the folder first"
        )
    return path
