"""transformers' generate() over remote sessions: only what is new to a row is sent.

Rows end at different tokens: what has ended is not stepped any more, so a session may be continued
from exactly what was said. Knows no sockets.

Shapes: B batch, L columns, M d_model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin
from transformers.generation.stopping_criteria import StoppingCriteriaList

from seshu_swarm.client.pretrained.cache import RemoteCache, cannot_be_copied
from seshu_swarm.errors import UsageError


class Watched(StoppingCriteriaList):
    """Stopping criteria that tell a cache which rows have ended, and with which token."""

    def __init__(self, cache: RemoteCache, criteria: Any = ()) -> None:
        super().__init__(criteria)
        self.cache = cache

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        finished_B: Tensor = super().__call__(input_ids, scores, **kwargs)
        self.cache.heard(input_ids[:, -1], finished_B)
        return finished_B


class RemoteGeneration(GenerationMixin):
    """For a model whose `session()` makes a RemoteCache."""

    session: Callable[[], RemoteCache]

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        # generate() then makes no cache of attention's kind.
        return False

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        session: RemoteCache | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in transformers. With a session `inputs` are the new ids of every row, and only they
        and what follows them are returned; a streamer hears the whole text first.

        Raises PeerError when the swarm cannot go on, UsageError for beams with a cache.
        """
        config = generation_config or self.generation_config
        options = {"generation_config": generation_config, **kwargs}
        if session is not None:
            return self._continue(inputs, session, config, options, stopping_criteria)
        is_cached = kwargs.get("use_cache", config.use_cache) is not False
        if not is_cached and kwargs.get("inputs_embeds") is None:  # transformers caches with those
            return super().generate(inputs, stopping_criteria=stopping_criteria, **options)
        with self.session() as cache:
            watched = Watched(cache, stopping_criteria or ())
            return super().generate(
                inputs, stopping_criteria=watched, cache_params=cache, **options
            )

    def _continue(
        self,
        inputs: Tensor | None,
        session: RemoteCache,
        config: GenerationConfig,
        options: dict[str, Any],
        stopping_criteria: StoppingCriteriaList | None,
    ) -> Any:
        ids_BL = options.pop("input_ids", None) if inputs is None else inputs
        if ids_BL is None or options.get("inputs_embeds") is not None:
            raise UsageError("a session without ids", rule="sessions keep the ids of their texts")
        pad_id = options.get("pad_token_id", config.pad_token_id) or 0
        mask_BL = options.pop("attention_mask", None)
        mask_BL = ids_BL != pad_id if mask_BL is None else mask_BL
        whole_BL, whole_mask_BL = session.joined_with(ids_BL, mask_BL, pad_id)
        watched = Watched(session, stopping_criteria or ())
        found = super().generate(
            whole_BL.to(ids_BL.device),
            stopping_criteria=watched,
            cache_params=session,
            attention_mask=whole_mask_BL.to(ids_BL.device),
            **options,
        )
        sequences_BL = found if isinstance(found, Tensor) else found.sequences
        new_BL = sequences_BL[:, whole_BL.shape[1] :]
        copies = len(new_BL) // len(ids_BL)
        new_BL = torch.cat([ids_BL.repeat_interleave(copies, dim=0), new_BL], dim=1)
        if isinstance(found, Tensor):
            return new_BL
        found.sequences = new_BL
        return found

    def _get_stopping_criteria(
        self, generation_config: GenerationConfig, stopping_criteria: Any, **kwargs: Any
    ) -> StoppingCriteriaList:
        # Where transformers has all criteria together, before the first token is asked for.
        if not isinstance(stopping_criteria, Watched):
            return super()._get_stopping_criteria(generation_config, stopping_criteria, **kwargs)
        if generation_config.num_beams > 1:
            raise cannot_be_copied()
        if generation_config.guidance_scale not in (None, 1):
            raise UsageError(
                f"guidance_scale {generation_config.guidance_scale}",
                rule="its second text would need sessions of its own, which transformers cannot make",
            )
        plain = StoppingCriteriaList(stopping_criteria)
        merged = super()._get_stopping_criteria(generation_config, plain, **kwargs)
        return Watched(stopping_criteria.cache, merged)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        *args: Any,
        cache_params: RemoteCache | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What is new to every row. Raises UsageError for a prompt padded on the right."""
        if attention_mask is not None and not bool(attention_mask[:, -1].all()):
            raise UsageError(
                "prompts padded on the right",
                rule="generation goes on after the last column",
                way_out='set tokenizer.padding_side = "left"',
            )
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids,
            *args,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        if cache_params is None:
            return inputs
        name = "input_ids" if inputs.get("inputs_embeds") is None else "inputs_embeds"
        given = inputs[name]
        if is_first_iteration:
            if attention_mask is None:
                attention_mask = torch.ones(given.shape[:2], dtype=torch.int64, device=given.device)
            cache_params.begin(input_ids, attention_mask)
            new_BL = cache_params.unheard(attention_mask)
        else:
            new_BL = cache_params.going_on
        inputs[name] = given[:, given.shape[1] - new_BL.shape[1] :]
        return inputs | {"cache_params": cache_params, "attention_mask": new_BL}
