"""All columns of one evaluation: models and floors on the same texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from seshu_swarm.evaluate.columns import Column
from seshu_swarm.evaluate.floors.ngram import ngram_nats
from seshu_swarm.evaluate.floors.packers import packed_bits
from seshu_swarm.evaluate.models.base import ScoredModel
from seshu_swarm.evaluate.models.scoring import Cut, lossy_texts, text_nats
from seshu_swarm.evaluate.texts import Text, Texts

OnColumn = Callable[[str, str], None]
"""Hears the name and the language of what is about to be scored."""


@dataclass(frozen=True)
class Evaluation:
    """The first column is the model that was asked about; `lossy`: texts that a model's tokeniser
    cannot give back, by model."""

    texts: Texts
    columns: Sequence[Column]
    lossy: Mapping[str, int] = field(default_factory=dict)


def model_column(
    model: ScoredModel, texts: Texts, *, cut: Cut, on_column: OnColumn
) -> tuple[Column, int]:
    """The scores of a model, and how many texts its tokeniser cannot give back."""
    nats, lossy = {}, 0
    for language, found in texts.items():
        on_column(model.name, language)
        nats[language] = text_nats(model, found, cut)
        lossy += lossy_texts(model, found)
    return Column.of_nats(model.name, nats), lossy


def floor_column(
    floor: str, texts: Texts, train: Texts, *, ngram: int, on_column: OnColumn
) -> Column:
    """The scores of a floor that has read `train` first, each language for itself."""
    name = f"{ngram}-gram" if floor == "ngram" else {"ppmd": "PPMd"}.get(floor, floor)
    nats, bits = {}, {}
    for language, found in texts.items():
        on_column(name, language)
        before, scored = _bytes(train.get(language, ())), _bytes(found)
        if floor == "ngram":
            nats[language] = ngram_nats(before, scored, order=ngram)
        else:
            bits[language] = packed_bits(floor, before, scored)
    return Column.of_nats(name, nats) if nats else Column.of_bits(name, bits)


def named_apart(names: Sequence[str]) -> list[str]:
    """Names of folders, with a number where two are alike."""
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def _bytes(texts: Sequence[Text]) -> list[bytes]:
    return [text.text.encode("utf-8") for text in texts]
