"""The whole model in one process, without transformers: what a swarm's answers must equal.

Shapes: B batch, L length, M d_model, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.checks import check_ids
from seshu_swarm.mamba.ends import Ends
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.spans import Span


class WholeModel(nn.Module):
    """Ends and all blocks; bit-equal to the same blocks run as several spans in turn."""

    def __init__(
        self, shape: MambaShape, *, ends: Ends | None = None, span: SpanModule | None = None
    ) -> None:
        super().__init__()
        self.shape = shape
        self.ends = ends or Ends(shape)
        self.span = span or SpanModule(shape, Span(0, shape.num_blocks))

    def logits(self, ids_BL: Tensor) -> Tensor:
        """Logits of every position, (batch, length, vocab_size). Raises UsageError."""
        check_ids(ids_BL, self.shape.vocab_size)
        hidden_BLM, _ = self.span(self.ends.embed(ids_BL))
        return self.ends.logits(hidden_BLM)

    def zero_state(self, batch: int = 1) -> RecurrentState:
        return RecurrentState.zeros(self.shape, self.span.span, batch)

    def prefill(self, ids_BL: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Absorb tokens; logits (batch, vocab_size) after the last one, and the next state.

        Raises UsageError for no tokens, ids beyond the vocabulary and a state that does not fit.
        """
        check_ids(ids_BL, self.shape.vocab_size)
        if ids_BL.shape[1] == 0:
            raise UsageError("a prompt without tokens", rule="one token or more")
        hidden_BLM, next_state = self.span(self.ends.embed(ids_BL), state)
        return self.ends.logits(hidden_BLM[:, -1:])[:, 0], next_state

    def step(self, ids_B: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Absorb one token for each session; the same returns."""
        return self.prefill(ids_B[:, None], state)

    @torch.inference_mode()
    def generate_greedy(
        self, ids: Sequence[int], *, max_new_tokens: int, stop_ids: Collection[int] = ()
    ) -> list[int]:
        """The likeliest continuation of one prompt; a stop id ends it and is not returned."""
        logits_BV, state = self.prefill(
            torch.tensor([list(ids)], dtype=torch.int64), self.zero_state()
        )
        generated: list[int] = []
        while len(generated) < max_new_tokens:
            token = int(logits_BV[0].argmax())
            if token in stop_ids:
                break
            generated.append(token)
            logits_BV, state = self.step(torch.tensor([token]), state)
        return generated

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """Every parameter under its global name; no copies."""
        return self.span.checkpoint_tensors() | self.ends.checkpoint_tensors()
