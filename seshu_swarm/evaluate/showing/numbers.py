"""An evaluation as rows and named results for the JSON report. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from seshu_swarm.evaluate.columns import MEAN, differences, scores_of
from seshu_swarm.evaluate.evaluation import Evaluation


def rows_of(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row a language: its size, scores of all columns, differences to the first."""
    texts, (first, *others) = evaluation.texts, evaluation.columns
    scores = {column.name: scores_of(column, texts) for column in evaluation.columns}
    pairs = {other.name: differences(first, other, texts) for other in others}
    rows: list[dict[str, Any]] = []
    for language, found in texts.items():
        size = sum(text.num_bytes for text in found)
        characters = sum(len(text.text) for text in found)
        rows.append(
            {
                "language": language,
                "documents": len(found),
                "bytes": size,
                "characters": characters,
                "scores": {
                    name: asdict(score[language])
                    | {"bits_per_character": score[language].bits_per_byte * size / characters}
                    for name, score in scores.items()
                },
                "differences": {
                    name: asdict(pair[language]) for name, pair in pairs.items() if pair
                },
            }
        )
    return rows


def results_of(evaluation: Evaluation) -> dict[str, float]:
    """The mean over languages of each column, and in how many languages the first beats it."""
    texts, (first, *others) = evaluation.texts, evaluation.columns
    scores = {column.name: scores_of(column, texts) for column in evaluation.columns}
    results = {f"bits_per_byte {name}": s[MEAN].bits_per_byte for name, s in scores.items()}
    for other in others:
        better = sum(
            scores[first.name][language].bits_per_byte < scores[other.name][language].bits_per_byte
            for language in texts
        )
        results[f"languages_better_than {other.name}"] = float(better)
    return results
