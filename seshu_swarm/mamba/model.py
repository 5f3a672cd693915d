"""The language model as a transformers class: for training with peft, generating and exporting.

With `backbone` and `pretrained`, the only files of the engine that import transformers.

Shapes: B batch, L length, M d_model, V vocab_size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin
from transformers.utils import ModelOutput

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.backbone import SeshuMambaModel, SeshuMambaOutput
from seshu_swarm.mamba.cache import RecurrentCache
from seshu_swarm.mamba.checks import check_labels, check_no_attention_cache, check_prompts
from seshu_swarm.mamba.padding import Padding
from seshu_swarm.mamba.pretrained import (
    LORA_TARGETS,
    SeshuMambaConfig,
    SeshuMambaPreTrainedModel,
)

__all__ = ["LORA_TARGETS", "SeshuMambaConfig", "SeshuMambaForCausalLM", "SeshuMambaModel"]

IGNORED_LABEL = -100


@dataclass
class SeshuMambaCausalLMOutput(ModelOutput):
    """`loss` where labels were given; `logits` (B, L or logits_to_keep, V)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    cache_params: RecurrentCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class SeshuMambaForCausalLM(SeshuMambaPreTrainedModel, GenerationMixin):
    """`SeshuMambaModel` and its head: trains, generates, continues from a cache of constant size."""

    _tied_weights_keys = {"lm_head.weight": "backbone.embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: SeshuMambaConfig) -> None:
        super().__init__(config)
        self.backbone = SeshuMambaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.backbone.embeddings = value

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        # generate() then makes no cache of attention's kind; the first call makes ours.
        return False

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        *args: Any,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As in transformers, which looks for `inputs_embeds` among these names.

        Raises UsageError for no prompt and for one padded on the right.
        """
        check_prompts(input_ids if inputs_embeds is None else None, attention_mask)
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids,
            *args,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return inputs

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache_params: RecurrentCache | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> SeshuMambaCausalLMOutput | tuple[Any, ...]:
        """The arguments of stock MambaForCausalLM; other `kwargs` go to transformers' loss.

        With labels (-100 ignored; at padding ignored too) the mean loss of the next token: they
        are shifted here. Of the logits the last `logits_to_keep` positions are kept, or those
        named by a tensor; 0 keeps all. Raises UsageError.
        """
        check_no_attention_cache(kwargs)
        found: SeshuMambaOutput = self.backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            cache_params=cache_params,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits_BLV = self.lm_head(_kept(found.last_hidden_state, logits_to_keep)).float()
        output = SeshuMambaCausalLMOutput(
            loss=None if labels is None else self._loss(logits_BLV, labels, attention_mask, kwargs),
            logits=logits_BLV,
            cache_params=found.cache_params,
            hidden_states=found.hidden_states,
        )
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    def _loss(
        self, logits_BLV: Tensor, labels_BL: Tensor, mask: Tensor | None, others: dict[str, Any]
    ) -> Tensor:
        check_labels(labels_BL, logits_BLV.shape[-1], ignored=IGNORED_LABEL)
        batch, length = labels_BL.shape
        if logits_BLV.shape[:2] != labels_BL.shape:
            raise UsageError(
                f"labels {tuple(labels_BL.shape)} and logits {tuple(logits_BLV.shape)}",
                rule="a label for each position, and all logits kept",
            )
        padding = Padding.of_mask(mask, batch=batch, length=length)
        if padding is not None:
            labels_BL = padding.counted(labels_BL, ignored=IGNORED_LABEL)
        loss: Tensor = self.loss_function(
            logits=logits_BLV, labels=labels_BL, vocab_size=logits_BLV.shape[-1], **others
        )
        return loss


def _kept(hidden_BLM: Tensor, logits_to_keep: int | Tensor) -> Tensor:
    """What the head is asked for. Raises UsageError."""
    if isinstance(logits_to_keep, int) and logits_to_keep < 0:
        raise UsageError(f"logits_to_keep {logits_to_keep}", rule="0 for all, or how many")
    places = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
    return hidden_BLM[:, places]


AutoConfig.register(SeshuMambaConfig.model_type, SeshuMambaConfig)
AutoModel.register(SeshuMambaConfig, SeshuMambaModel)
AutoModelForCausalLM.register(SeshuMambaConfig, SeshuMambaForCausalLM)
