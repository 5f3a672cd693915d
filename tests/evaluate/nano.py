"""Nano models on disk, and rows to score them on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from seshu_swarm import checkpoints
from seshu_swarm.data import phrasebook
from seshu_swarm.evaluate.texts import Text
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

SHAPE = MambaShape(d_model=32, num_blocks=2)


def write_model(folder: Path, *, seed: int = 0, shape: MambaShape = SHAPE) -> Path:
    """A checkpoint of random weights; logits far enough apart that bytes cost differently."""
    torch.manual_seed(seed)
    model = WholeModel(shape)
    with torch.no_grad():
        model.ends.embeddings.weight.mul_(10)
    tensors = model.checkpoint_tensors()
    checkpoints.save_checkpoint(folder, shape=shape, tensors=tensors, about={}, card="")
    return folder


def write_lines(file: Path, tables: Sequence[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(table, ensure_ascii=False) + "\n" for table in tables]
    file.write_text("".join(lines), encoding="utf-8")
    return file


def write_folder(folder: Path, languages: Sequence[str] = ("hi", "ta"), documents: int = 6) -> Path:
    """Running text of the phrasebook, a few documents a language."""
    found = phrasebook.build(languages, 0, documents_per_language=documents).documents
    for language in languages:
        tables = [{"text": document.text} for document in found[language]]
        write_lines(folder / "pretrain" / f"{language}.jsonl", tables)
    return folder


def text(content: str, *, prompt: str = "", name: str = "a", language: str = "hi") -> Text:
    return Text(name, language, prompt, content, name)
