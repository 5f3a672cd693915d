"""`python -m seshu_swarm data tokeniser SOURCE --out DIR`: train one, and say how finely it cuts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from seshu_swarm.data.tokenisers.choosing import tokeniser_of
from seshu_swarm.data.tokenisers.config import DataTokeniserConfig
from seshu_swarm.data.tokenisers.fertility import Fertility, fertility
from seshu_swarm.data.tokenisers.texts import Texts
from seshu_swarm.data.tokenisers.training import train
from seshu_swarm.errors import DataError
from seshu_swarm.packages import write_whole
from seshu_swarm.program import log
from seshu_swarm.program.progress import Bar
from seshu_swarm.program.reports import check_place

Measured = dict[str, dict[str, Fertility]]


def run(settings: DataTokeniserConfig) -> int:
    if settings.json:
        check_place(Path(settings.json))
    source, names = Path(settings.source).expanduser(), list(settings.compare)
    facts: dict[str, Any] = {}
    if settings.out:
        facts = _train(settings, source)
        names.insert(0, settings.out)
    measured = {name: _measure(settings, source, name) for name in names}
    if not any(measured.values()):
        log.event("tokeniser", "too little text: none of it is held out to measure on")
    table = {
        "source": settings.source,
        **facts,
        "fertility": {name: _numbers(found) for name, found in measured.items()},
    }
    if settings.json:
        write_whole(Path(settings.json), json.dumps(table, indent=2).encode())
    log.event("fertility", shown(measured), **table)
    return 0


def _texts(settings: DataTokeniserConfig, source: Path, bar: Bar) -> Texts:
    return Texts(
        source,
        settings.languages,
        bytes_per_language=round(settings.megabytes_per_language * 1e6),
        watch=bar.update,
    )


def _train(settings: DataTokeniserConfig, source: Path) -> dict[str, Any]:
    """Train and save; what it was trained on."""
    with Bar("reading") as bar:
        texts = _texts(settings, source, bar)
        only_texts = (text for _, text in texts.of("train"))
        tokeniser = train(settings.kind, only_texts, settings.vocab_size)
    for language in settings.languages:
        if not texts.num_bytes[language]:
            known = ", ".join(sorted(texts.num_bytes)) or "none of those asked for"
            raise DataError(f"{source} has no text in {language!r}", rule=f"it has {known}")
    tokeniser.save(Path(settings.out).expanduser())
    bad = "".join(f", {count} {reason}" for reason, count in sorted(texts.bad.items()))
    log.event(
        "tokeniser",
        f"{settings.kind} with {tokeniser.vocab_size} ids in {settings.out}, from "
        f"{texts.num_bytes.total() / 1e6:.1f} MB in {len(texts.num_bytes)} languages{bad}",
    )
    return {
        "kind": settings.kind,
        "vocab_size": tokeniser.vocab_size,
        "bytes": dict(sorted(texts.num_bytes.items())),
        "left_out": dict(sorted(texts.bad.items())),
    }


def _measure(settings: DataTokeniserConfig, source: Path, name: str) -> dict[str, Fertility]:
    """Counts on the texts that are held out."""
    tokeniser = tokeniser_of(name)
    with Bar(f"measuring {name}") as bar:
        return fertility(tokeniser, _texts(settings, source, bar).of("held-out"))


def _numbers(found: Mapping[str, Fertility]) -> dict[str, dict[str, float]]:
    return {
        language: {
            "texts": counts.texts,
            "bytes": counts.bytes,
            "tokens": counts.tokens,
            "bytes_per_token": counts.bytes_per_token,
            "characters_per_token": counts.characters_per_token,
            "tokens_per_word": counts.tokens_per_word,
            "changed": counts.changed,
        }
        for language, counts in found.items()
    }


def shown(measured: Measured) -> str:
    """The table for people: a row per language, three numbers per tokeniser."""
    table = Table(title="Fertility on held-out texts", title_justify="left")
    table.add_column("language")
    table.add_column("bytes", justify="right")
    for name in measured:
        for what in ("bytes/token", "tokens/word", "changed"):
            table.add_column(f"{Path(name).name}\n{what}", justify="right")
    for language in sorted({language for found in measured.values() for language in found}):
        counts = [found[language] for found in measured.values() if language in found]
        cells = [
            cell
            for c in counts
            for cell in (f"{c.bytes_per_token:.2f}", f"{c.tokens_per_word:.2f}", str(c.changed))
        ]
        table.add_row(language, str(counts[0].bytes), *cells)
    console = Console(width=max(80, 20 + 40 * len(measured)), no_color=True)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
