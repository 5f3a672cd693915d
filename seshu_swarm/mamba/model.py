"""The transformers class around our blocks: for training with peft, and for exporting.

`SeshuMambaForCausalLM` has its own `model_type`, so that peft puts LoRA on `in_proj`, `x_proj` and
`out_proj` (it refuses `out_proj` on `mamba`), and its mixer calls them as modules, so that every
LoRA tensor trains and merging is exact. `from_pretrained` reads `mamba` folders; `save_pretrained`
writes them, so stock transformers loads what is published. The only file of the engine that
imports transformers.

Shapes: B batch, L length, M d_model, V vocab_size.
"""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationMixin,
    MambaConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.block import MambaBlock
from seshu_swarm.mamba.ends import EMBEDDING_STD
from seshu_swarm.mamba.mixer import MambaMixer
from seshu_swarm.mamba.norm import RMSNorm
from seshu_swarm.mamba.shape import MambaShape

LORA_TARGETS = ("in_proj", "x_proj", "out_proj")


class SeshuMambaConfig(MambaConfig):
    """MambaConfig under a name of its own, which peft and the Auto classes go by."""

    model_type = "seshu_mamba"

    @classmethod
    def from_shape(cls, shape: MambaShape) -> SeshuMambaConfig:
        fields = shape.to_config()
        del fields["model_type"]
        return cls(**fields)

    def to_shape(self) -> MambaShape:
        """Raises PackageError for what the blocks do not implement."""
        return MambaShape.from_config(self.to_dict() | {"model_type": "mamba"})


class SeshuMambaBackbone(nn.Module):
    """Embeddings, blocks and final norm under transformers' names."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(shape.vocab_size, shape.d_model)
        self.layers = nn.ModuleList(MambaBlock(shape) for _ in range(shape.num_blocks))
        self.norm_f = RMSNorm(shape.d_model, shape.norm_epsilon)

    def forward(self, hidden_BLM: Tensor) -> Tensor:
        for block in self.layers:
            hidden_BLM, _, _ = block(hidden_BLM)
        normed_BLM: Tensor = self.norm_f(hidden_BLM)
        return normed_BLM


class SeshuMambaForCausalLM(PreTrainedModel, GenerationMixin):
    """Mamba for training: no cache; padding only on the right, where it changes nothing."""

    config_class = SeshuMambaConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    _no_split_modules = ("MambaBlock",)
    _tied_weights_keys = {"lm_head.weight": "backbone.embeddings.weight"}  # noqa: RUF012
    _is_stateful = True
    # peft asks for it; transformers' own property of that name only warns.
    is_gradient_checkpointing = False

    def __init__(self, config: SeshuMambaConfig) -> None:
        super().__init__(config)
        shape = config.to_shape()
        self.backbone = SeshuMambaBackbone(shape)
        self.lm_head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        match module:
            case MambaMixer():
                module.reset_parameters()
            case RMSNorm():
                nn.init.ones_(module.weight)
            case nn.Embedding():
                nn.init.normal_(module.weight, std=EMBEDDING_STD)

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.backbone.embeddings = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutput:
        """Logits (batch, length, vocab_size); with labels (-100 ignored), the mean loss of the next
        token. Labels are shifted here. Raises UsageError."""
        if (input_ids is None) == (inputs_embeds is None):
            raise UsageError("input_ids and inputs_embeds", rule="give exactly one of them")
        _check_padding(attention_mask)
        hidden_BLM = self.backbone.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        hidden_BLM = self.backbone(hidden_BLM)
        logits_BLV = self.lm_head(hidden_BLM[:, -logits_to_keep:])
        loss = None if labels is None else _next_token_loss(logits_BLV, labels)
        return CausalLMOutput(loss=loss, logits=logits_BLV)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any
    ) -> SeshuMambaForCausalLM:
        """As in transformers; a `mamba` folder's configuration changes its class on the way."""
        if kwargs.get("config") is None:
            found = MambaConfig.get_config_dict(pretrained_model_name_or_path)[0]
            shape = MambaShape.from_config(found | {"model_type": "mamba"})
            kwargs["config"] = SeshuMambaConfig.from_shape(shape)
        model: SeshuMambaForCausalLM = super().from_pretrained(
            pretrained_model_name_or_path, *args, **kwargs
        )
        return model

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:
        """Writes the layout of stock MambaForCausalLM, config included."""
        super().save_pretrained(save_directory, **kwargs)
        config = json.dumps(self.config.to_shape().to_config(), indent=2, sort_keys=True)
        (Path(save_directory) / "config.json").write_text(config + "\n", encoding="utf-8")


def _check_padding(mask_BL: Tensor | None) -> None:
    """A causal model may ignore padding after the text, never before it."""
    if mask_BL is not None and bool((mask_BL[:, 1:] > mask_BL[:, :-1]).any()):
        raise UsageError(
            "a batch padded on the left",
            rule="padding goes on the right: a recurrent state absorbs what precedes the text",
            way_out='set tokenizer.padding_side = "right"',
        )


def _next_token_loss(logits_BLV: Tensor, labels_BL: Tensor) -> Tensor:
    return functional.cross_entropy(
        logits_BLV[:, :-1].flatten(0, 1).float(), labels_BL[:, 1:].flatten(), ignore_index=-100
    )


AutoConfig.register(SeshuMambaConfig.model_type, SeshuMambaConfig)
AutoModelForCausalLM.register(SeshuMambaConfig, SeshuMambaForCausalLM)
