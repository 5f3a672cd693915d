"""Blocks `[start, end)` of a model, and nothing else of it.

Shapes: B batch, L length, M d_model, K blocks of the span.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.block import MambaBlock
from seshu_swarm.mamba.checks import check_stream
from seshu_swarm.mamba.decoding import step_blocks
from seshu_swarm.mamba.shape import MambaShape, block_prefix
from seshu_swarm.mamba.state import RecurrentState, state_sizes
from seshu_swarm.spans import Span


class SpanModule(nn.Module):
    """`forward(hidden, state=None)`: with a state given, continue it. Raises UsageError."""

    def __init__(
        self, shape: MambaShape, span: Span, *, blocks: Iterable[nn.Module] | None = None
    ) -> None:
        super().__init__()
        if span.end > shape.num_blocks:
            raise UsageError(
                f"blocks {span} of a model with {shape.num_blocks} blocks",
                rule="a span lies inside the model",
                way_out=f"for example --blocks 0:{shape.num_blocks}",
            )
        self.shape, self.span = shape, span
        fresh = (MambaBlock(shape) for _ in span)
        self.blocks = nn.ModuleList(fresh if blocks is None else blocks)

    def forward(
        self,
        hidden_BLM: Tensor,
        state: RecurrentState | None = None,
        lengths_B: Tensor | None = None,
    ) -> tuple[Tensor, RecurrentState | None]:
        """Next residual stream, and the next state if one was given; the given one is kept.

        Of row b only the first lengths[b] (int64) tokens count; none means all. What is returned
        for the others means nothing.
        """
        check_stream(hidden_BLM, self.shape.d_model, next(self.parameters()).dtype)
        if state is None:
            for block in self.blocks:
                hidden_BLM, _, _ = block(hidden_BLM, lengths_B=lengths_B)
            return hidden_BLM, None
        self._check(hidden_BLM, state)
        if hidden_BLM.shape[1] == 1 and lengths_B is None:
            done = step_blocks(self.shape, self.blocks, hidden_BLM[:, 0], state.conv, state.ssm)
            if done is not None:
                return done[0][:, None], state.advanced(done[1], done[2], 1)
        conv, ssm = [], []
        for index, block in enumerate(self.blocks):
            hidden_BLM, next_conv, next_ssm = block(
                hidden_BLM, state.conv[index], state.ssm[index], lengths_B
            )
            conv.append(next_conv)
            ssm.append(next_ssm)
        num_tokens = hidden_BLM.shape[1] if lengths_B is None else lengths_B.tolist()
        return hidden_BLM, state.advanced(torch.stack(conv), torch.stack(ssm), num_tokens)

    def _check(self, hidden_BLM: Tensor, state: RecurrentState) -> None:
        if state.span != self.span or state.batch != hidden_BLM.shape[0]:
            raise UsageError(
                f"state of blocks {state.span} and {state.batch} sessions",
                rule=f"blocks {self.span} and {hidden_BLM.shape[0]} sessions",
            )
        expected = state_sizes(self.shape, self.span, state.batch)
        found = tuple(state.conv.shape), tuple(state.ssm.shape)
        if found != expected:
            raise UsageError(
                f"states {found[0]} and {found[1]}", rule=f"{expected[0]} and {expected[1]}"
            )
        if state.conv.device != hidden_BLM.device:
            raise UsageError(
                f"a state on {state.conv.device}", rule=f"{hidden_BLM.device}, where the stream is"
            )

    def part(self, span: Span) -> SpanModule:
        """Some of these blocks as a span of their own; they share the weights. Raises UsageError."""
        if span == self.span:
            return self
        if not self.span.start <= span.start < span.end <= self.span.end:
            raise UsageError(f"blocks {span} of a span {self.span}", rule="a part lies inside")
        offset = self.span.start
        blocks = list(self.blocks)[span.start - offset : span.end - offset]
        return SpanModule(self.shape, span, blocks=blocks)

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """Parameters under their global names, `backbone.layers.{block}.…`; no copies."""
        return {
            block_prefix(block_index) + name: parameter
            for block_index, block in zip(self.span, self.blocks, strict=True)
            for name, parameter in block.named_parameters()
        }
