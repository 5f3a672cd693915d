"""What all parts of a session are opened with."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.exchange.session_messages import MAX_SNAPSHOT_TOKENS
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.streams import wire


@dataclass(frozen=True)
class Terms:
    """`wire_type`: in which type hidden states travel. Raises UsageError."""

    revision: str
    shape: MambaShape
    snapshot_tokens: int
    wire_type: str

    def __post_init__(self) -> None:
        if self.wire_type not in wire.DTYPES:
            raise UsageError(
                f"wire type {self.wire_type!r} is unknown", rule=f"one of {', '.join(wire.DTYPES)}"
            )
        if not 1 <= self.snapshot_tokens <= MAX_SNAPSHOT_TOKENS:
            raise UsageError(
                f"a snapshot every {self.snapshot_tokens} tokens",
                rule=f"from 1 to {MAX_SNAPSHOT_TOKENS}: a peer keeps no more tokens than it has memory for",
            )
