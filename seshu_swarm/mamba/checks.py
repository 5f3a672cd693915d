"""What callers give a model, refused by name before an operator meets it. Knows no parameters.

Numbers are looked at only where that does not wait for a device: on the CPU, outside of compiling.

Shapes: B batch, L length, M d_model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.cache import RecurrentCache

ID_TYPES = (torch.int64, torch.int32)


def check_ids(ids_BL: Tensor, vocab_size: int, *, name: str = "input_ids") -> None:
    """Token ids are (batch, length) whole numbers below `vocab_size`. Raises UsageError."""
    _check_whole_numbers(ids_BL, name)
    if not _can_be_read(ids_BL):
        return
    least, most = (int(end) for end in ids_BL.aminmax())
    if not 0 <= least <= most < vocab_size:
        raise UsageError(
            f"{name} with token id {least if least < 0 else most}",
            rule=f"0 to {vocab_size - 1}, the model's vocabulary",
            way_out="use the tokeniser that was saved with the model",
        )


def check_labels(labels_BL: Tensor, vocab_size: int, *, ignored: int) -> None:
    """Token ids, and the number that is ignored. Raises UsageError."""
    _check_whole_numbers(labels_BL, "labels")
    if _can_be_read(labels_BL):
        check_ids(labels_BL.masked_fill(labels_BL == ignored, 0), vocab_size, name="labels")


def check_stream(
    hidden_BLM: Tensor, d_model: int, dtype: torch.dtype, *, name: str = "residual stream"
) -> None:
    """(batch, length, d_model) in the type of the weights. Raises UsageError."""
    if hidden_BLM.dim() != 3 or hidden_BLM.shape[-1] != d_model:
        raise UsageError(
            f"{name} {tuple(hidden_BLM.shape)}", rule=f"(batch, length, d_model = {d_model})"
        )
    device = hidden_BLM.device.type
    is_cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    fits = hidden_BLM.is_floating_point() if is_cast else hidden_BLM.dtype == dtype
    if not fits:
        raise UsageError(
            f"{name} of {hidden_BLM.dtype}",
            rule=f"{dtype}, as the weights",
            way_out=f"convert it with .to({dtype}), or the model",
        )


def check_prompts(ids_BL: Tensor | None, mask_BL: Tensor | None) -> None:
    """What generation goes on from: tokens, the last of each row in the last column.

    Raises UsageError.
    """
    if ids_BL is not None and ids_BL.numel() == 0:
        raise UsageError(
            f"prompts {tuple(ids_BL.shape)} without tokens",
            rule="generation continues a text",
            way_out="begin with one token, for example the tokeniser's pad_token_id",
        )
    if mask_BL is None or bool(mask_BL[:, -1].all()):
        return
    if not bool(mask_BL.any(1).all()):
        raise UsageError(
            "prompts of nothing but padding",
            rule="generation continues a text",
            way_out="give generate() the attention_mask: without one, each pad id is padding to it",
        )
    raise UsageError(
        "prompts padded on the right",
        rule="generation goes on after the last column",
        way_out='set tokenizer.padding_side = "left"',
    )


def check_no_attention_cache(others: dict[str, Any]) -> None:
    """Its text would be forgotten without a word. Raises UsageError."""
    if others.get("past_key_values") is not None:
        raise UsageError(
            "past_key_values",
            rule="a recurrent model has states in place of keys and values",
            way_out="give the cache_params that the call before returned",
        )


def check_cache(cache: object) -> None:
    """One of ours. Raises UsageError."""
    if not isinstance(cache, RecurrentCache):
        raise UsageError(
            f"cache_params of {type(cache).__name__}",
            rule="a RecurrentCache",
            way_out="give the cache_params that the call before returned, or none",
        )


def _check_whole_numbers(numbers_BL: Tensor, name: str) -> None:
    """A (batch, length) tensor of a type for ids. Raises UsageError."""
    if not isinstance(numbers_BL, Tensor):
        raise UsageError(f"{name} of {type(numbers_BL).__name__}", rule="a tensor of int64")
    if numbers_BL.dim() != 2 or numbers_BL.dtype not in ID_TYPES:
        raise UsageError(
            f"{name} {tuple(numbers_BL.shape)} of {numbers_BL.dtype}",
            rule="(batch, length) of int64 or int32",
        )


def _can_be_read(tensor: Tensor) -> bool:
    """Whether looking at its numbers is free of waiting, and there are any."""
    return tensor.device.type == "cpu" and tensor.numel() > 0 and not torch.compiler.is_compiling()
