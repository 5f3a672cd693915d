"""What a dashboard shows of a run, as plain data. Knows no source and no page.

Times are seconds since 1970, losses nats per token, qualities bits per byte. Strings may be a
stranger's: whoever shows them makes them safe (`texts`). A part that a source does not know is None
or empty, and the page says so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Run:
    """What everybody in the swarm agrees on. `link` is the join link, or empty."""

    run_id: str
    revision: str
    num_blocks: int
    d_model: int
    num_parameters: int
    languages: tuple[str, ...]
    licence: str
    round_index: int
    round_state: str
    round_closes_at: float
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Who serves blocks [start, end); `heard_at` is when its last signed record was made."""

    peer_id: str
    start: int
    end: int
    revisions: tuple[str, ...]
    num_sessions: int
    step_seconds: float
    heard_at: float
    state: str
    limits: str = ""

    @property
    def is_serving(self) -> bool:
        return self.state == "serving"


@dataclass(frozen=True, kw_only=True)
class Training:
    """A plan of pipelined training; `curve` holds some (step, loss)."""

    plan: str
    state: str
    step: int | None
    num_steps: int
    boundaries: tuple[int, ...]
    loss: float | None = None
    num_tokens: int = 0
    tokens_per_second: float = 0.0
    at: float = 0.0
    num_members: int = 0
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Change:
    """A language's bits per byte in a published round; the change lies in [low, high] at 95 %."""

    language: str
    before: float
    after: float
    low: float
    high: float

    @property
    def change(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """On one adapter; `credit` is what the mixture loses without it, where it was measured."""

    digest: str
    language: str
    is_accepted: bool
    reason: str
    next_step: str = ""
    credit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Round:
    """`num_accepted` counts while no verdict is known too."""

    number: int
    state: str
    opened_at: float
    revision: str | None
    reason: str
    num_adapters: int
    num_accepted: int
    changes: tuple[Change, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def is_published(self) -> bool:
        return self.state == "published"


@dataclass(frozen=True, kw_only=True)
class Donor:
    """`credit` sums leave-one-out credit of the adapters that were merged."""

    peer_id: str
    num_adapters: int
    num_accepted: int
    credit: float
    last_round: int


@dataclass(frozen=True, kw_only=True)
class File:
    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """`files` are those that this page's server gives out; `hub` is OWNER/NAME, or empty."""

    revision: str
    kind: str
    round: int
    made_at: float
    size_bytes: int | None = None
    withdrawn: str = ""
    hub: str = ""
    files: tuple[File, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """`peers` is None where the source does not see the swarm; `source` is a sentence for people.

    Rounds are oldest first, donors best first, checkpoints newest first.
    """

    taken_at: float
    source: str
    run: Run
    peers: tuple[Peer, ...] | None = None
    training: Training | None = None
    rounds: tuple[Round, ...] = ()
    donors: tuple[Donor, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
