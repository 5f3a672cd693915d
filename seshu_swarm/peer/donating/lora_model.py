"""The base model with LoRA, and the package that holds only the LoRA.

peft puts LoRA on those of the three projections that the strict reader accepts, by name (`all-linear` would
add `dt_proj`, which the strict reader refuses). The package carries the base's digest, a card, and
nothing that names a machine or a person. Knows no rows.

Shapes: B batch, L length, V vocab_size.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.rules import CONFIG_FILE, KIND, TARGETS, TENSOR_FILE
from seshu_swarm.errors import TrainingError, from_os_error
from seshu_swarm.mamba.model import SeshuMambaConfig, SeshuMambaForCausalLM
from seshu_swarm.peer.donating.lora_card import CARD_FILE, adapter_card
from seshu_swarm.training.loop import Batch, batch_nats


class LoraModel(nn.Module):
    """`logits(ids)` with LoRA; only its tensors require a gradient, and every B starts at 0."""

    def __init__(
        self, base: SeshuMambaForCausalLM, *, rank: int, alpha: float, targets: Sequence[str]
    ) -> None:
        super().__init__()
        config = peft.LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=sorted(targets), task_type="CAUSAL_LM"
        )
        self.peft_model = peft.get_peft_model(base, config)

    def logits(self, ids_BL: Tensor) -> Tensor:
        """Logits (batch, length, vocab_size), on the device of the ids."""
        device = next(self.parameters()).device
        logits_BLV: Tensor = self.peft_model(input_ids=ids_BL.to(device)).logits
        return logits_BLV.to(ids_BL.device)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.peft_model.named_parameters() if p.requires_grad}

    def lora_tensors(self) -> dict[str, Tensor]:
        """Tensors under the names that peft gives them in a file, float32, on the host."""
        # "auto" would ask the Hub whether the vocabulary was changed.
        found = peft.get_peft_model_state_dict(self.peft_model, save_embedding_layers=False)
        return {name: t.detach().to("cpu", torch.float32).contiguous() for name, t in found.items()}


def load_lora_model(
    base_folder: Path, *, rank: int, alpha: float, seed: int, targets: Sequence[str] = TARGETS
) -> LoraModel:
    """The checkpoint, its digests checked, with fresh LoRA. Raises PackageError."""
    base = SeshuMambaForCausalLM(SeshuMambaConfig.from_shape(checkpoints.read_shape(base_folder)))
    state = base.state_dict()
    for name, tensor in checkpoints.load_tensors(base_folder).items():
        state[name].copy_(tensor)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LoraModel(base, rank=rank, alpha=alpha, targets=targets)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def check_trained(model: LoraModel, batch: Batch) -> None:
    """Every LoRA tensor receives a gradient, and every B has left 0. Raises TrainingError."""
    model.zero_grad()
    batch_nats(model, batch).backward()
    for name, parameter in model.trained_parameters().items():
        gradient, is_B = parameter.grad, "lora_B" in name
        if gradient is None or not bool(gradient.any()) or (is_B and not bool(parameter.any())):
            raise TrainingError(
                f"{name} was not trained",
                rule="every tensor of an adapter receives a gradient",
                way_out="train for more steps; if it stays so, report it with your versions",
            )
    model.zero_grad()


def save_adapter(folder: Path, model: LoraModel, *, about: Mapping[str, Any]) -> str:
    """Write the package whole, with its card, and return its digest; `about` is as `lora` makes it.

    Raises PackageError if the folder holds another package, DiskFullError, ResourceError.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        config = model.peft_model.peft_config["default"]
        # Never the local path of the base: it would tell the donor's user name.
        config.base_model_name_or_path = config.revision = about["base_revision"]
        config.inference_mode = True
        # A set to peft: its order would be another in each process, and so would the digest.
        config.target_modules = sorted(config.target_modules)
        config.save_pretrained(str(partial))
        (partial / CARD_FILE).write_text(adapter_card(about), encoding="utf-8")
        (partial / TENSOR_FILE).write_bytes(safetensors_torch.save(model.lora_tensors()))
    except OSError as error:
        raise from_os_error(error, str(partial)) from error
    digest = packages.seal(partial, KIND, [CARD_FILE, CONFIG_FILE, TENSOR_FILE], dict(about))
    packages.publish_folder(partial, folder)
    packages.read_manifest(folder, digest)
    return digest
