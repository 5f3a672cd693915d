"""Adapters as donors train them: LoRA by peft on one language's rows, loss on answers only.

Knows no swarm and no file: what comes out is what the strict reader would have read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import peft
import torch
from torch import Tensor, nn

from seshu_swarm import checkpoints
from seshu_swarm.adapters.reader import Adapter, Pair
from seshu_swarm.adapters.rules import KEY_PREFIX, TARGETS
from seshu_swarm.data.prompts import encode_row
from seshu_swarm.data.text import Row
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.mamba.model import SeshuMambaConfig, SeshuMambaForCausalLM
from seshu_swarm.training.feeding import RowBatches, TextBatches, interleaved
from seshu_swarm.training.loop import train
from seshu_swarm.training.schedule import Budget, Schedule

SCALE = 2.0
MAX_TOKENS, BATCH_TOKENS = 160, 1_024
REPLAY_SHARE = 0.3


class LoraOnBase(nn.Module):
    """`logits` of a checkpoint with fresh LoRA, by the seed."""

    def __init__(self, base: Path, *, rank: int, seed: int) -> None:
        super().__init__()
        copy = SeshuMambaForCausalLM(SeshuMambaConfig.from_shape(checkpoints.read_shape(base)))
        state = copy.state_dict()
        for name, tensor in checkpoints.load_tensors(base).items():
            state[name].copy_(tensor)
        config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=list(TARGETS))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.peft_model = peft.get_peft_model(copy, config)

    def logits(self, ids_BL: Tensor) -> Tensor:
        logits_BLV: Tensor = self.peft_model(input_ids=ids_BL).logits
        return logits_BLV

    def adapter(self, digest: str, rank: int) -> Adapter:
        return Adapter(digest, rank, SCALE, _pairs(self.peft_model))


def row_batches(rows: Sequence[Row], seed: int) -> RowBatches:
    """Microbatches of rows, by the seed."""
    encoded = [encode_row(ByteTokeniser(), row, MAX_TOKENS) for row in rows]
    return RowBatches(encoded, max_tokens=BATCH_TOKENS, seed=seed)


def trained_adapter(
    base: Path,
    rows: Sequence[Row],
    text: TextBatches,
    *,
    rank: int = 8,
    steps: int = 80,
    seed: int = 0,
) -> Adapter:
    """An adapter trained on the rows, with running text of all languages between them."""
    model = LoraOnBase(base, rank=rank, seed=seed)
    schedule = Schedule(learning_rate=5e-3, weight_decay=0.0)
    batches = interleaved(row_batches(rows, seed), text, REPLAY_SHARE)
    train(model, batches, schedule=schedule, budget=Budget(max_steps=steps))
    return model.adapter(f"{seed:064x}", rank)


def _pairs(model: nn.Module) -> dict[str, Pair]:
    found: Mapping[str, Tensor] = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    suffix = ".lora_A.weight"
    return {
        name.removesuffix(suffix).removeprefix(KEY_PREFIX): (
            tensor.detach().clone(),
            found[f"{name.removesuffix(suffix)}.lora_B.weight"].detach().clone(),
        )
        for name, tensor in sorted(found.items())
        if name.endswith(suffix)
    }
