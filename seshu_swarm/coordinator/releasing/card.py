"""The model card: what the Hub reads at its top, and what people read below. Text only; pure.

Reasons and licences hold what strangers wrote, so every cell is made harmless first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seshu_swarm.coordinator.releasing.names import PICTURE

# The Hub's own names; any other licence is `other`, with its name beside it.
LICENCES = frozenset(
    {
        *(
            "apache-2.0",
            "mit",
            "cc0-1.0",
            "odc-by",
            "unlicense",
            "openrail",
            "bigscience-openrail-m",
        ),
        *("cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
        *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
    }
)
WITHDRAWN = "## Withdrawn"
LIMITS = (
    "An experiment by volunteers: expect errors, and do not rely on what it says.",
    "Scores are bits per byte of text that no donor saw; they say nothing of truth or of harm.",
    "The coordinator is believed on scores: whoever has the hold-outs can check them, nobody else.",
    "Nothing here proves the absence of a backdoor.",
    "Blind scoring cannot see a trigger that the held-out text does not contain.",
)


@dataclass(frozen=True)
class Withdrawn:
    """A release that nobody should use any more."""

    tag: str
    revision: str
    why: str


@dataclass(frozen=True)
class CardFacts:
    """`report` as the round left it, `data` its data manifest.

    `repository`: OWNER/NAME on the Hub, or nothing; `parent_tag`: where the parent lies there.
    """

    run_id: str
    licence: str
    report: Mapping[str, Any]
    data: Mapping[str, Any]
    repository: str | None
    parent_tag: str | None
    withdrawn: tuple[Withdrawn, ...] = ()


def tag_of(round_number: int) -> str:
    """The release's name on the Hub."""
    return f"round-{round_number}"


def card_of(facts: CardFacts) -> str:
    """Markdown below the Hub's header."""
    report = facts.report
    parts = [
        _header(facts),
        f"# Seshu run “{facts.run_id}”, round {report['round']}",
        _summary(facts),
        *([withdrawn_text(facts.withdrawn)] if facts.withdrawn else []),
        "## Load it\n\n" + _load(facts),
        "## Bits per byte\n\n" + _lines(_numbers(report["languages"])),
        f"![Bits per byte of every language over the rounds]({PICTURE})",
        "## Recipe\n\n" + _lines(_recipe(facts)),
        "## Verdicts\n\n" + _lines(_verdicts(report["adapters"])),
        "## Data\n\n" + _lines(_data(facts.data)),
        "## Limits\n\n" + _lines(f"- {limit}" for limit in LIMITS),
    ]
    return "\n\n".join(parts) + "\n"


def _header(facts: CardFacts) -> str:
    """YAML, every string quoted as JSON, which YAML reads alike."""
    licence = facts.licence.lower()
    lines = ["---", "language:"]
    # The Hub knows languages, not their scripts: pa_Arab is pa there.
    codes = dict.fromkeys(re.split("[-_]", code)[0] for code in facts.report["languages"])
    lines += [f"- {json.dumps(code)}" for code in codes]
    if licence in LICENCES:
        lines.append(f"license: {licence}")
    else:
        lines += ["license: other", f"license_name: {json.dumps(facts.licence)}"]
    lines += ["library_name: transformers", "pipeline_tag: text-generation"]
    lines += ["tags:", "- mamba", "- byte-level", "- federated", "- merge", "- seshu"]
    if facts.repository and facts.parent_tag:
        lines += [f"base_model: {json.dumps(facts.repository)}", "base_model_relation: merge"]
        lines.append(f"base_model_revision: {json.dumps(facts.parent_tag)}")
    return "\n".join([*lines, "---"])


def _summary(facts: CardFacts) -> str:
    report = facts.report
    num_merged = len(report["recipe"]["adapters"])
    return (
        f"A Mamba language model of bytes, made by merging {num_merged} of "
        f"{len(report['adapters'])} volunteers' adapters, chosen without knowing whose they are.\n\n"
        f"- revision `{report['revision']}`\n"
        f"- parent `{report['parent']}`" + (f" (`{facts.parent_tag}`)" if facts.parent_tag else "")
    )


def withdrawn_text(withdrawn: Sequence[Withdrawn]) -> str:
    """A section that the newest card has, because the Hub shows that one and keeps old tags."""
    lines = [f"- WITHDRAWN: `{one.tag}` (`{one.revision}`): {cell(one.why)}" for one in withdrawn]
    intro = "Do not use these. The Hub keeps a tag that was pushed, and copies elsewhere stay too."
    return "\n\n".join([WITHDRAWN, intro, _lines(lines)])


def _load(facts: CardFacts) -> str:
    tag = tag_of(facts.report["round"])
    place = f'"{facts.repository}", revision="{tag}"' if facts.repository else '"FOLDER"'
    return "\n".join(
        [
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            f"tokeniser = AutoTokenizer.from_pretrained({place})",
            f"model = AutoModelForCausalLM.from_pretrained({place})",
            "```",
        ]
    )


def _numbers(languages: Mapping[str, Any]) -> Iterator[str]:
    yield "Of answers that no donor saw (final split, read once for this release); lower is better."
    yield ""
    yield "| language | before | after | change | 95 % interval | documents |"
    yield "|---|---:|---:|---:|---:|---:|"
    for language, found in languages.items():
        change = found["change"]
        values = f"{found['before']:.4f} | {found['after']:.4f}"
        delta = f"{found['after'] - found['before']:+.4f}"
        interval = f"{change['low']:+.4f} to {change['high']:+.4f}"
        count = change.get("num_documents", "")
        yield f"| {language} | {values} | {delta} | {interval} | {count} |"


def _recipe(facts: CardFacts) -> Iterator[str]:
    recipe = facts.report["recipe"]
    settings = ", ".join(f"{k} = {v:g}" for k, v in recipe.get("settings", {}).items())
    yield f"Merged by `{recipe['method']}`{f' ({settings})' if settings else ''} with"
    yield f"λ = {recipe['lambda']:g}: the parent plus λ times the merged differences."
    yield ""
    yield "| adapter | share |"
    yield "|---|---:|"
    for digest, share in recipe["adapters"]:
        yield f"| `{digest}` | {share:.4f} |"


def _verdicts(adapters: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| adapter | language | verdict | gain | reason |"
    yield "|---|---|---|---|---|"
    for adapter in adapters:
        word = "accepted" if adapter["accepted"] else "rejected"
        gain, reason = cell(adapter["gain"]), cell(adapter["reason"])
        language = cell(adapter["language"])
        yield f"| `{adapter['digest'][:16]}…` | {language} | {word} | {gain} | {reason} |"


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    if catalogue := data["catalogue"]:
        yield f"- catalogue `{catalogue['digest']}`, {cell(catalogue['licence'])}: "
        yield f"  {len(catalogue['files'])} shards, each with its digest in `data-manifest.json`"
    for adapter in data["adapters"]:
        rows = f"{adapter['num_rows']:,} rows of `{cell(adapter['language'])}`"
        licence = cell(adapter["licence"])
        yield f"- adapter `{adapter['digest'][:16]}…`: {rows}, declared as {licence}"
    for note in data["notes"]:
        yield f"- **{cell(note)}**"


def cell(text: str) -> str:
    """A stranger's text for a table: one line, no markup, at most 200 characters."""
    plain = " ".join(str(text).split())[:200]
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", plain)
    # Addresses become links without any markup.
    return plain.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
