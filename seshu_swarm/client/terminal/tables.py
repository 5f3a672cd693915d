"""A look at a run as rich's tables. Pure.

What peers wrote about themselves is hostile: it is printed as text, without markup and without
characters that steer a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from seshu_swarm.client.terminal.looking import Look
from seshu_swarm.network.dht import Found
from seshu_swarm.records.kinds import RoundRecord, SpanRecord, TrainingRecord

SHORT = 12  # digits of a revision
LONGEST = 120  # characters of what a stranger wrote
BAR = 20  # peers that are drawn; of more, the number alone says how many
FEW = 2  # peers of a block without which one that leaves stops everybody


def parts(look: Look) -> Iterator[RenderableType]:
    """What is printed, top to bottom."""
    yield _headline(look)
    yield _blocks(look.covered)
    if look.spans:
        yield _peers(look)
    if look.training is not None:
        yield _training(look.training)
    if look.rounds:
        yield _rounds(look.rounds)
    if missing := look.missing_blocks:
        blocks = ", ".join(map(str, missing))
        yield Text(f"blocks without a peer: {blocks}; host one: peer host --join LINK", "bold red")


def plain(text: str) -> Text:
    """A stranger's words on one line."""
    printable = "".join(letter if letter.isprintable() else "·" for letter in text)
    return Text(printable if len(printable) <= LONGEST else printable[: LONGEST - 1] + "…")


def _headline(look: Look) -> Text:
    run = look.run
    closes = run.round_closes_at - look.at
    until = f", closes in {_duration(closes)}" if closes > 0 else ""
    return Text.assemble(
        ("run ", "dim"),
        (run.run_id, "bold"),
        f"  revision {run.revision[:SHORT]}, {run.num_parameters:,} parameters, "
        f"{', '.join(run.languages)}\n",
        ("round ", "dim"),
        f"{run.round_index}  {plain(run.round_state)}{until}",
    )


def _blocks(covered: list[int]) -> Table:
    """Blocks in a row with as many peers each are one line."""
    table = Table("blocks", "peers", "", title="blocks", title_justify="left")
    start = 0
    for count, same in groupby(covered):
        end = start + len(list(same))
        style = "red" if count == 0 else "yellow" if count < FEW else "green"
        table.add_row(f"{start}:{end}", str(count), Text("■" * min(count, BAR) or "none", style))
        start = end
    return table


def _peers(look: Look) -> Table:
    table = Table(title=f"{len(look.spans)} peer(s)", title_justify="left")
    for column in ("peer", "blocks", "revisions", "limits", "state"):
        table.add_column(column)
    for column in ("sessions", "ms per step", "heard"):
        table.add_column(column, justify="right")
    for one in look.spans:
        record = one.record
        table.add_row(
            f"…{one.owner[-8:]}",
            f"{record.start}:{record.end}",
            " ".join(revision[:8] for revision in record.revisions),
            plain(record.limits),
            _state(one),
            str(record.num_sessions),
            f"{record.step_seconds * 1e3:.1f}" if record.step_seconds else "–",
            f"{_duration(look.age_seconds(one))} ago",
        )
    return table


def _state(one: Found[SpanRecord]) -> Text:
    if one.record.paused:
        return plain(one.record.paused)
    return Text("leaving", "yellow") if one.record.is_draining else Text("serving", "green")


def _training(training: TrainingRecord) -> Text:
    tokens = training.num_microbatches * training.batch_size * training.length
    stages = zip(training.boundaries, training.boundaries[1:], strict=False)
    spans = " → ".join(f"{start}:{end}" for start, end in stages)
    return Text.assemble(
        ("training ", "dim"), f"{training.num_steps:,} steps of {tokens:,} tokens, stages {spans}"
    )


def _rounds(rounds: Iterable[RoundRecord]) -> Table:
    table = Table(title="rounds", title_justify="left")
    for column in ("round", "ended", "accepted", "rejected", "revision or reason"):
        table.add_column(column)
    for one in rounds:
        outcome = plain(one.reason) if one.revision is None else Text(one.revision[:SHORT])
        counts = str(one.num_accepted), str(one.num_rejected)
        table.add_row(str(one.round_index), one.state, *counts, outcome)
    return table


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
