"""The model card: for people, beside a checkpoint and no part of its digest."""

from __future__ import annotations

from typing import Any

from seshu_swarm import checkpoints, packages
from seshu_swarm.coordinator.blind.judging import FinalWord
from seshu_swarm.coordinator.state.run_folder import RunFolder


def write_card(run: RunFolder, revision: str, recipe: dict[str, Any], word: FinalWord) -> None:
    """The model card, once the final numbers are known."""
    path = run.package(revision) / checkpoints.CARD
    packages.write_whole(path, card_of(revision, recipe, word).encode())


def card_of(revision: str, recipe: dict[str, Any], word: FinalWord) -> str:
    rows = [
        f"| {language} | {word.before[language]:.4f} | {word.after[language]:.4f} | "
        f"{word.after[language] - word.before[language]:+.4f} "
        f"[{word.comparisons.gains[language].low:+.4f}, {word.comparisons.gains[language].high:+.4f}] |"
        for language in word.before
    ]
    shares = "\n".join(f"- `{d[:16]}…`: {share:.4f}" for d, share in recipe["adapters"])
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [mamba, byte-level, federated]",
            "---",
            f"# Seshu, round {recipe['round']}",
            "",
            f"Revision `{revision}`, made from parent `{recipe['parent']}` by a round of a Seshu swarm.",
            "An experiment by volunteers: expect errors, and do not rely on what it says.",
            "",
            f"Merged by {recipe['method']} with λ = {recipe['lambda']:g}:",
            "",
            shares,
            "",
            "Bits per byte of answers that no donor saw (final split, read once):",
            "",
            "| language | before | after | change [95 % interval] |",
            "|---|---|---|---|",
            *rows,
            "",
            "Nothing here proves the absence of a backdoor.",
            "",
        ]
    )
