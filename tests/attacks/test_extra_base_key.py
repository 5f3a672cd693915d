"""A file with a key beside the LoRA's own: peft would overwrite the base with it, without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.adapters.samples import key
from tests.attacks.refusing import A0, put, refused_tensors

EXTRA = {
    "final norm": "base_model.model.backbone.norm_f.weight",
    "base weight": A0.replace(".lora_A", ""),
    "base weight under its own name": "backbone.norm_f.weight",
    "a module to save": "base_model.model.lm_head.modules_to_save.weight",
    "A_log": A0.replace("in_proj", "A_log"),
    "bias": A0.replace("A.weight", "B.bias"),
    "magnitude vector": A0.replace("A.weight", "magnitude_vector"),
    "block out of range": key(2, "in_proj", "A"),
    "block -1": key(-1, "in_proj", "A"),
    "block 00": A0.replace("layers.0", "layers.00"),
}


@pytest.mark.parametrize("name", EXTRA.values(), ids=EXTRA)
def test_an_extra_key_is_refused(tmp_path: Path, name: str) -> None:
    assert refused_tensors(tmp_path, put(name, torch.ones(2, 8))) == "FORBIDDEN_KEY"
