"""Embeddings, blocks and final norm as transformers knows them.

The mixer calls its projections as modules, so that every LoRA tensor trains and merging is exact.
Rows may be padded on either side: the padding reaches no state and no gradient. A call may continue
from any cache by any number of tokens; the cache has constant size and a new token costs one step.

Shapes: B batch, L length, M d_model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.block import MambaBlock
from seshu_swarm.mamba.cache import BlockState, RecurrentCache
from seshu_swarm.mamba.checks import (
    check_cache,
    check_ids,
    check_no_attention_cache,
    check_stream,
)
from seshu_swarm.mamba.decoding import step_cache
from seshu_swarm.mamba.norm import RMSNorm
from seshu_swarm.mamba.padding import Padding
from seshu_swarm.mamba.pretrained import SeshuMambaConfig, SeshuMambaPreTrainedModel


@dataclass
class SeshuMambaOutput(ModelOutput):
    """`hidden_states`: after every block, then after the final norm; each (B, L, M)."""

    last_hidden_state: Tensor
    cache_params: RecurrentCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class SeshuMambaBlock(MambaBlock, GradientCheckpointingLayer):
    """A block whose activations transformers may drop and compute again in the backward pass."""


class SeshuMambaModel(SeshuMambaPreTrainedModel):
    """Embeddings, blocks and final norm under transformers' names."""

    def __init__(self, config: SeshuMambaConfig) -> None:
        super().__init__(config)
        self._shape = shape = config.to_shape()
        self.embeddings = nn.Embedding(shape.vocab_size, shape.d_model)
        self.layers = nn.ModuleList(SeshuMambaBlock(shape) for _ in range(shape.num_blocks))
        self.norm_f = RMSNorm(shape.d_model, shape.norm_epsilon)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache_params: RecurrentCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> SeshuMambaOutput | tuple[Any, ...]:
        """The arguments of stock MambaModel; a cache given is continued from and advanced.

        `use_cache` asks for one: by default as the config says, and never while training. Raises
        UsageError.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise UsageError("input_ids and inputs_embeds", rule="give exactly one of them")
        check_no_attention_cache(others)
        hidden_BLM = self._embedded(input_ids) if inputs_embeds is None else inputs_embeds
        check_stream(
            hidden_BLM, self._shape.d_model, self.norm_f.weight.dtype, name="inputs_embeds"
        )
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if cache_params is None and use_cache:
            cache_params = RecurrentCache(len(self.layers))
        padding = Padding.of_mask(
            attention_mask, batch=hidden_BLM.shape[0], length=hidden_BLM.shape[1]
        )
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        every_BLM: list[Tensor] | None = [] if output_hidden_states else None
        hidden_BLM = self._run(hidden_BLM, padding, cache_params, every_BLM)
        output = SeshuMambaOutput(
            last_hidden_state=hidden_BLM,
            cache_params=cache_params if use_cache else None,
            hidden_states=None if every_BLM is None else tuple(every_BLM),
        )
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    def _embedded(self, input_ids: Tensor | None) -> Tensor:
        check_ids(cast(Tensor, input_ids), self.embeddings.num_embeddings)
        hidden_BLM: Tensor = self.embeddings(input_ids)
        return hidden_BLM

    def _run(
        self,
        hidden_BLM: Tensor,
        padding: Padding | None,
        cache: RecurrentCache | None,
        every_BLM: list[Tensor] | None,
    ) -> Tensor:
        """After the final norm; `every_BLM`, where given, receives what is after each block too."""
        lengths_B = None
        if padding is not None:
            hidden_BLM, lengths_B = padding.text_first(hidden_BLM), padding.lengths
        if cache is not None:
            check_cache(cache)
            cache.check(num_blocks=len(self.layers), batch=hidden_BLM.shape[0])
            if padding is None and every_BLM is None:
                stepped_BLM = step_cache(self._shape, self.layers, hidden_BLM, cache)
                if stepped_BLM is not None:
                    normed_BLM: Tensor = self.norm_f(stepped_BLM)
                    return normed_BLM
        hidden_BLM = self.norm_f(self._blocks(hidden_BLM, lengths_B, cache, every_BLM))
        if every_BLM is not None:
            every_BLM.append(hidden_BLM)
            if padding is not None:
                every_BLM[:] = [padding.as_given(after_BLM) for after_BLM in every_BLM]
        return hidden_BLM if padding is None else padding.as_given(hidden_BLM)

    def _blocks(
        self,
        hidden_BLM: Tensor,
        lengths_B: Tensor | None,
        cache: RecurrentCache | None,
        every_BLM: list[Tensor] | None,
    ) -> Tensor:
        states: list[BlockState] = []
        for index, block in enumerate(self.layers):
            before = (None, None) if cache is None else cache[index]
            hidden_BLM, conv, ssm = block(hidden_BLM, *before, lengths_B)
            if cache is not None:
                states.append((conv, ssm))
            if every_BLM is not None:
                every_BLM.append(hidden_BLM)
        if cache is not None:
            cache.replace(states)
        return hidden_BLM
