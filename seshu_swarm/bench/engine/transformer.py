"""A Transformer to compare with: as many parameters as a Mamba, on torch's own fused attention.

Pre-norm, rotary positions, causal attention, SwiGLU, tied head. The Mamba paper (section 3.4) sets
two Mamba blocks against one of these; the MLP's width makes the parameters equal. Decoding keeps keys
and values of all past tokens. For the bench only: nothing else in the package knows attention.

Shapes: B batch, L length, M d_model, H heads, E head width, T past and present tokens, K blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from seshu_swarm.mamba.shape import MambaShape

HEAD_WIDTH = 64
ROTARY_BASE = 10_000.0
INIT_STD = 0.02
ROOM_TOKENS = 64  # by which a full cache grows: more would be memory that no token needs


@dataclass(frozen=True, kw_only=True)
class TransformerShape:
    d_model: int
    num_blocks: int
    mlp_width: int
    vocab_size: int

    @property
    def num_heads(self) -> int:
        return max(1, self.d_model // HEAD_WIDTH)

    @classmethod
    def like(cls, mamba: MambaShape) -> TransformerShape:
        """The shape with as many parameters as this Mamba."""
        num_blocks = max(1, mamba.num_blocks // 2)
        d_model = mamba.d_model
        attention_and_norms = num_blocks * (4 * d_model**2 + 2 * d_model)
        ends = mamba.vocab_size * d_model + d_model
        left = mamba.num_parameters - ends - attention_and_norms
        return cls(
            d_model=d_model,
            num_blocks=num_blocks,
            mlp_width=max(1, round(left / (3 * d_model * num_blocks))),
            vocab_size=mamba.vocab_size,
        )


@dataclass(frozen=True, eq=False)
class KeyValueCache:
    """Keys and values (blocks, batch, heads, room, head width); the first `position` are filled."""

    keys: Tensor
    values: Tensor
    position: int

    @property
    def num_bytes(self) -> int:
        """Of the tokens held; the room for more is not counted."""
        return 2 * self.keys[..., : self.position, :].nbytes

    def with_room(self, num_tokens: int) -> KeyValueCache:
        """The same tokens, with room for so many more."""
        missing = self.position + num_tokens - self.keys.shape[-2]
        if missing <= 0:
            return self
        more = (0, 0, 0, missing + ROOM_TOKENS)
        return KeyValueCache(
            functional.pad(self.keys, more), functional.pad(self.values, more), self.position
        )

    def appended(self, block_index: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write a block's new keys and values (B, H, L, E); all of its own so far (B, H, T, E)."""
        end = self.position + keys.shape[-2]
        self.keys[block_index, :, :, self.position : end] = keys
        self.values[block_index, :, :, self.position : end] = values
        return self.keys[block_index, :, :, :end], self.values[block_index, :, :, :end]


class Attention(nn.Module):
    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.num_heads = shape.num_heads
        self.in_proj = nn.Linear(shape.d_model, 3 * shape.d_model, bias=False)
        self.out_proj = nn.Linear(shape.d_model, shape.d_model, bias=False)

    def forward(
        self, x_BLM: Tensor, angles: Tensor, cache: KeyValueCache | None, block_index: int
    ) -> Tensor:
        heads = self.in_proj(x_BLM).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)  # each (B, H, L, E)
        query, key = rotated(query, angles), rotated(key, angles)
        if cache is not None:
            key, value = cache.appended(block_index, key, value)
        # One query sees everything before it; several begin at position 0, see `Transformer.prefill`.
        is_causal = query.shape[-2] > 1
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        mixed_BLM: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return mixed_BLM


class TransformerBlock(nn.Module):
    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.d_model)
        self.attention = Attention(shape)
        self.mlp_norm = nn.RMSNorm(shape.d_model)
        self.gate_and_up = nn.Linear(shape.d_model, 2 * shape.mlp_width, bias=False)
        self.down = nn.Linear(shape.mlp_width, shape.d_model, bias=False)

    def forward(
        self, x_BLM: Tensor, angles: Tensor, cache: KeyValueCache | None, block_index: int
    ) -> Tensor:
        x_BLM = x_BLM + self.attention(self.attention_norm(x_BLM), angles, cache, block_index)
        gate, up = self.gate_and_up(self.mlp_norm(x_BLM)).chunk(2, dim=-1)
        fed_BLM: Tensor = self.down(functional.silu(gate) * up)
        return x_BLM + fed_BLM


class Transformer(nn.Module):
    """`logits` of all positions; `prefill` from nothing and `step` by one token with a cache."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = nn.Embedding(shape.vocab_size, shape.d_model)
        self.blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(shape.num_blocks))
        self.norm_f = nn.RMSNorm(shape.d_model)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)

    def logits(self, ids_BL: Tensor) -> Tensor:
        """(batch, length, vocab_size)."""
        return self._head(self._hidden(ids_BL, None))

    def prefill(self, ids_BL: Tensor) -> tuple[Tensor, KeyValueCache]:
        """Logits (batch, vocab_size) after the last token, and the cache of all of them."""
        shape = self.shape
        width = shape.d_model // shape.num_heads
        empty = torch.empty(shape.num_blocks, ids_BL.shape[0], shape.num_heads, 0, width)
        return self._continue(ids_BL, KeyValueCache(empty, empty, 0))

    def step(self, ids_B: Tensor, cache: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """The same after one more token. Memory is shared: an older cache is overwritten."""
        return self._continue(ids_B[:, None], cache)

    def _continue(self, ids_BL: Tensor, cache: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        num_tokens = ids_BL.shape[1]
        cache = cache.with_room(num_tokens)
        hidden_BLM = self._hidden(ids_BL, cache)
        grown = KeyValueCache(cache.keys, cache.values, cache.position + num_tokens)
        return self._head(hidden_BLM[:, -1:])[:, 0], grown

    def _hidden(self, ids_BL: Tensor, cache: KeyValueCache | None) -> Tensor:
        start = 0 if cache is None else cache.position
        angles = rotary_angles(start, ids_BL.shape[1], self.shape.d_model // self.shape.num_heads)
        hidden_BLM: Tensor = self.embeddings(ids_BL)
        for block_index, block in enumerate(self.blocks):
            hidden_BLM = block(hidden_BLM, angles, cache, block_index)
        return hidden_BLM

    def _head(self, hidden_BLM: Tensor) -> Tensor:
        return functional.linear(self.norm_f(hidden_BLM), self.embeddings.weight)


def rotary_angles(start: int, length: int, width: int) -> Tensor:
    """Angle of each position from `start` and each pair of a head's numbers, (L, E / 2)."""
    speeds = ROTARY_BASE ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    positions = torch.arange(start, start + length, dtype=torch.float32)
    return positions[:, None] * speeds


def rotated(x_BHLE: Tensor, angles: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021), a head's first half paired with its second."""
    first, second = x_BHLE.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
