"""The recurrent state of one span: all that a session leaves on a peer, of constant size.

Rows of a batch are sessions, each with its own position (tokens absorbed). The bytes are safetensors
with the revision, the span and the positions in the header; whatever does not fit exactly is
refused. Knows nothing of sessions' names or epochs.

Shapes: K blocks of the span, B batch, D d_inner, N d_state, P d_conv - 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor

from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.spans import Span

MAX_HEADER_BYTES = 65_536
MAX_POSITION = 1 << 53


@dataclass(frozen=True, eq=False)
class RecurrentState:
    """conv (blocks, batch, d_inner, d_conv - 1), ssm (blocks, batch, d_inner, d_state)."""

    conv: Tensor
    ssm: Tensor
    span: Span
    positions: tuple[int, ...]

    @classmethod
    def zeros(cls, shape: MambaShape, span: Span, batch: int = 1) -> RecurrentState:
        """The state before the first token."""
        conv, ssm = state_sizes(shape, span, batch)
        return cls(torch.zeros(conv), torch.zeros(ssm), span, (0,) * batch)

    @property
    def batch(self) -> int:
        return len(self.positions)

    @property
    def position(self) -> int:
        """Tokens absorbed, where all rows agree. Raises UsageError otherwise."""
        if len(set(self.positions)) != 1:
            raise UsageError(
                f"sessions at positions {self.positions} have no common one",
                rule="ask a batch for its positions, or scatter it first",
            )
        return self.positions[0]

    @property
    def num_bytes(self) -> int:
        """Memory of both tensors."""
        return self.conv.nbytes + self.ssm.nbytes

    def advanced(
        self, conv: Tensor, ssm: Tensor, num_tokens: int | Sequence[int]
    ) -> RecurrentState:
        """The state after `num_tokens` more tokens, of all rows or of each, with these tensors."""
        counts = [num_tokens] * self.batch if isinstance(num_tokens, int) else num_tokens
        positions = tuple(map(sum, zip(self.positions, counts, strict=True)))
        return replace(self, conv=conv, ssm=ssm, positions=positions)

    def clone(self) -> RecurrentState:
        """A copy that shares no memory and no gradient history."""
        return replace(self, conv=self.conv.detach().clone(), ssm=self.ssm.detach().clone())

    @staticmethod
    def gather(states: Sequence[RecurrentState]) -> RecurrentState:
        """One batch of several sessions' states, in order. Raises UsageError if spans differ."""
        if len({state.span for state in states}) != 1:
            spans = ", ".join(str(state.span) for state in states)
            raise UsageError(f"states of spans {spans}", rule="a batch is of one span")
        sizes = {(state.conv.shape[2:], state.ssm.shape[2:]) for state in states}
        if len(sizes) != 1:
            widths = [tuple(conv) + tuple(ssm) for conv, ssm in sizes]
            raise UsageError(f"states of channels {widths}", rule="a batch is of one model")
        return RecurrentState(
            torch.cat([state.conv for state in states], dim=1),
            torch.cat([state.ssm for state in states], dim=1),
            states[0].span,
            tuple(position for state in states for position in state.positions),
        )

    def scatter(self) -> list[RecurrentState]:
        """One state of batch 1 for each row, each with its own memory."""
        return [
            RecurrentState(
                self.conv[:, row : row + 1].clone(),
                self.ssm[:, row : row + 1].clone(),
                self.span,
                (position,),
            )
            for row, position in enumerate(self.positions)
        ]

    def to_bytes(self, *, revision: str) -> bytes:
        """Safetensors, for `from_bytes` of another peer."""
        tensors = {
            "conv": self.conv.detach().cpu().contiguous(),
            "ssm": self.ssm.detach().cpu().contiguous(),
        }
        facts = {"revision": revision, "span": str(self.span), "positions": self.positions}
        header = {"state": json.dumps(facts, sort_keys=True)}
        data: bytes = safetensors_torch.save(tensors, header)
        return data

    @classmethod
    def from_bytes(
        cls, data: bytes, *, shape: MambaShape, span: Span, revision: str
    ) -> RecurrentState:
        """Read bytes that may come from anyone. Raises PackageError on anything unexpected."""
        facts = _read_facts(data)
        positions = _read_positions(facts)
        expected = {"revision": revision, "span": str(span), "positions": list(positions)}
        if facts != expected:
            found = f"revision {facts.get('revision')!r}, span {facts.get('span')!r}"
            raise PackageError(
                f"state of {found}"[:300], rule=f"revision {revision!r}, span {str(span)!r}"
            )
        conv_size, ssm_size = state_sizes(shape, span, len(positions))
        try:
            tensors = safetensors_torch.load(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise PackageError(f"state is not readable: {error!r}"[:300]) from None
        if set(tensors) != {"conv", "ssm"}:
            raise PackageError(
                f"state with tensors {sorted(tensors)}"[:300], rule="exactly conv and ssm"
            )
        _check_tensor("conv", tensors["conv"], conv_size)
        _check_tensor("ssm", tensors["ssm"], ssm_size)
        return cls(tensors["conv"], tensors["ssm"], span, positions)


def state_sizes(
    shape: MambaShape, span: Span, batch: int
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Of conv and of ssm."""
    rows = (span.length, batch, shape.d_inner)
    return (*rows, shape.d_conv - 1), (*rows, shape.d_state)


def _read_facts(data: bytes) -> dict[str, object]:
    """What the header says about the state; its length is checked before it is parsed."""
    header_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header_bytes > min(MAX_HEADER_BYTES, len(data) - 8):
        raise PackageError(
            f"state of {len(data)} bytes with a header of {header_bytes}",
            rule=f"a header of at most {MAX_HEADER_BYTES} bytes, inside the data",
        )
    try:
        facts = json.loads(json.loads(data[8 : 8 + header_bytes])["__metadata__"]["state"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PackageError(f"state header is not readable: {error!r}"[:300]) from None
    if not isinstance(facts, dict):
        raise PackageError("state header without facts", rule="revision, span and positions")
    return facts


def _read_positions(facts: dict[str, object]) -> tuple[int, ...]:
    positions = facts.get("positions")
    if not (
        isinstance(positions, list)
        and positions
        and all(type(p) is int and 0 <= p <= MAX_POSITION for p in positions)
    ):
        raise PackageError(
            f"state with positions {positions!r}"[:300], rule="one whole number for each session"
        )
    return tuple(positions)


def _check_tensor(name: str, tensor: Tensor, size: tuple[int, ...]) -> None:
    if tensor.dtype != torch.float32 or tuple(tensor.shape) != size:
        raise PackageError(
            f"state tensor {name} is {tensor.dtype} {tuple(tensor.shape)}", rule=f"float32 {size}"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise PackageError(f"state tensor {name} holds infinite or undefined numbers")
