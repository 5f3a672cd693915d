"""The card of a checkpoint of pipelined training: recipe, curve, and what it was judged by. Text only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seshu_swarm import checkpoints
from seshu_swarm.coordinator.blind.judging import FinalWord
from seshu_swarm.coordinator.upkeep.gating import table
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.packages import write_whole

JUDGED_HEADING = "\n## Judged\n"


def training_card(shape: MambaShape, about: Mapping[str, Any]) -> str:
    """Markdown with the Hub's header; `about` is the manifest's."""
    header = ["---", "library_name: transformers", "pipeline_tag: text-generation", "language:"]
    header += [f"- {language}" for language in about["languages"]]
    header += [
        f"license: {str(about['licence']).lower()}",
        "tags:",
        "- mamba",
        "- byte-level",
        "---",
    ]
    curve = ["| step | loss |", "|---:|---:|"]
    losses = [f"| {step} | {loss:.3f} |" for step, loss in about["curve"]]
    recipe = (
        f"{shape.num_blocks} blocks of width {shape.d_model}, {shape.num_parameters:,} parameters. "
        f"Trained through a pipeline of peers (plan `{about['plan']}`) for {about['num_steps']:,} steps "
        f"on {about['num_tokens']:,} tokens (bytes in the numbering of ByT5) of the trainers' own text, "
        f"from checkpoint `{about['base']}`."
    )
    parts = [
        "\n".join(header),
        "# A Mamba language model of bytes, trained by peers",
        recipe,
        "\n".join(["## Loss", "", "Nats per token of single steps.", "", *curve, *losses]),
    ]
    return "\n\n".join(parts) + "\n"


def amend_card(package: Path, head: str, said: str, word: FinalWord) -> None:
    """The judgement at the end of the card; again where an earlier one stands."""
    path = package / checkpoints.CARD
    card = path.read_text(encoding="utf-8").partition(JUDGED_HEADING)[0]
    text = f"{card}{JUDGED_HEADING}\nAgainst `{head}`: {said}\n\n{table(word)}\n"
    write_whole(path, text.encode("utf-8"))
