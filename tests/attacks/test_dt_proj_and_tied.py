"""LoRA where it is invisible before the merge (`dt_proj`), or wrong after it (tied embeddings)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.adapters.samples import lora_config, write_adapter
from tests.attacks.refusing import A0, put, refused, refused_tensors

TRAPS = {
    "dt_proj": (A0.replace("in_proj", "dt_proj"), (2, 1)),
    "conv1d": (A0.replace("in_proj", "conv1d"), (2, 1)),
    "head": ("base_model.model.lm_head.lora_A.weight", (2, 8)),
    "embeddings": ("base_model.model.backbone.embeddings.lora_embedding_A", (2, 32)),
}


@pytest.mark.parametrize(("name", "shape"), TRAPS.values(), ids=TRAPS)
def test_tensors_of_a_trap_are_refused(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    assert refused_tensors(tmp_path, put(name, torch.ones(shape))) == "FORBIDDEN_KEY"


@pytest.mark.parametrize("target", ["dt_proj", "conv1d", "embeddings", "lm_head"])
def test_a_configuration_that_names_a_trap_is_refused(tmp_path: Path, target: str) -> None:
    write_adapter(tmp_path, config=lora_config(target_modules=["in_proj", target]))
    assert refused(tmp_path) == "FORBIDDEN_KEY"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"target_modules": "all-linear"}, "BAD_CONFIG"),  # picks dt_proj too
        ({"target_parameters": ["mixer.dt_proj.weight"]}, "TARGET_PARAMETERS"),
        ({"modules_to_save": ["lm_head"]}, "MODULES_TO_SAVE"),
        ({"trainable_token_indices": [1]}, "UNSUPPORTED_LORA"),
    ],
)
def test_no_other_way_leads_there(tmp_path: Path, change: dict[str, object], name: str) -> None:
    write_adapter(tmp_path, config=lora_config(**change))
    assert refused(tmp_path) == name
