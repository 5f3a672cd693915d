"""The model card of a pretrained checkpoint: recipe, data, curve, parent. Text only; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seshu_swarm.mamba.shape import MambaShape


def pretraining_card(
    shape: MambaShape, about: Mapping[str, Any], curve: Sequence[tuple[int, float]]
) -> str:
    """Markdown with the Hub's header; `about` is the manifest's, `curve` holds (step, nats)."""
    languages = sorted(about["data"])
    header = ["---", "library_name: transformers", "pipeline_tag: text-generation", "language:"]
    header += [f"- {language}" for language in languages]
    if "licence" in about:
        header.append(f"license: {str(about['licence']).lower()}")
    parts = [
        "\n".join([*header, "tags:", "- mamba", "- byte-level", "---"]),
        "# A Mamba language model of bytes, pretrained",
        _summary(shape, about),
        "## Recipe\n\n" + "\n".join(_recipe(about["settings"])),
        "## Data\n\n" + "\n".join(_data(about)) + _replayed(about),
        "## Loss\n\nNats per token of single steps.\n\n" + "\n".join(_curve(curve)),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(shape: MambaShape, about: Mapping[str, Any]) -> str:
    origin = f"checkpoint `{about['parent']}`" if about["parent"] else "fresh weights"
    return (
        f"{shape.num_blocks} blocks of width {shape.d_model}, {shape.num_parameters:,} parameters. "
        f"Trained from {origin} for {about['num_steps']:,} steps on {about['num_tokens']:,} tokens "
        "(bytes in the numbering of ByT5)."
    )


def _recipe(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _recipe(value)
        else:
            yield f"- {name}: {value}"


def _data(about: Mapping[str, Any]) -> Iterator[str]:
    yield "| language | documents | bytes | held-out bits per byte before | after |"
    yield "|---|---:|---:|---:|---:|"
    for language, facts in about["data"].items():
        before, after = (
            _number(about[f"bits_per_byte_{when}"].get(language)) for when in ("before", "after")
        )
        counts = f"{facts['num_documents']:,} | {facts['num_bytes']:,}"
        yield f"| {language} | {counts} | {before} | {after} |"


def _replayed(about: Mapping[str, Any]) -> str:
    found = about.get("replayed", {})
    if not found:
        return ""
    counts = ", ".join(f"{name} {facts['num_bytes']:,} bytes" for name, facts in found.items())
    share = about["settings"]["replay_share"]
    return f"\n\nText seen before, {share:.0%} of the microbatches: {counts}."


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _curve(curve: Sequence[tuple[int, float]]) -> Iterator[str]:
    yield "| step | loss |"
    yield "|---:|---:|"
    for step, loss in curve:
        yield f"| {step} | {loss:.3f} |"
