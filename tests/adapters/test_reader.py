"""The strict reader accepts exactly what peft writes, and reads it as peft merges it."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch

from seshu_swarm import packages
from seshu_swarm.adapters.delta import delta_of
from seshu_swarm.adapters.lora_config import parse_lora_config
from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.rules import CONFIG_FILE, TENSOR_FILE, AdapterRules, expected_tensors
from seshu_swarm.mamba.model import SeshuMambaConfig, SeshuMambaForCausalLM
from tests.adapters.samples import RULES, SHAPE, key, lora_tensors, write_adapter


def trained_by_peft(targets: list[str]) -> peft.PeftModel:
    """LoRA whose B is no longer zero."""
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=targets, lora_dropout=0.05, task_type="CAUSAL_LM"
    )
    base = SeshuMambaForCausalLM(SeshuMambaConfig.from_shape(SHAPE))
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    return model


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own
@pytest.mark.parametrize("targets", [["in_proj"], ["out_proj", "in_proj", "x_proj"]])
def test_what_peft_saves_is_read_and_merges_alike(tmp_path: Path, targets: list[str]) -> None:
    model = trained_by_peft(targets)
    model.save_pretrained(tmp_path)
    digest = packages.seal(tmp_path, "adapter", [CONFIG_FILE, TENSOR_FILE, "README.md"], {"n": 1})
    adapter = read_adapter(tmp_path, shape=SHAPE, rules=RULES, digest=digest)
    assert (adapter.digest, adapter.rank, adapter.scale) == (digest, 4, 2.0)
    assert adapter.about == {"n": 1}

    before = {n: p.detach().clone() for n, p in model.get_base_model().named_parameters()}
    merged = dict(model.merge_and_unload().named_parameters())
    delta = delta_of(adapter)
    assert set(delta) == {
        f"backbone.layers.{block}.mixer.{target}.weight" for block in (0, 1) for target in targets
    }
    for name, matrix in delta.items():
        wrapped = name.replace(".weight", ".base_layer.weight")
        assert matrix.dtype == torch.float64
        torch.testing.assert_close(
            merged[name].double(), before[wrapped].double() + matrix, rtol=0, atol=1e-5
        )


def test_every_default_of_this_peft_passes(tmp_path: Path) -> None:
    table = peft.LoraConfig(target_modules=["in_proj"], task_type="CAUSAL_LM").to_dict()
    table["target_modules"] = sorted(table["target_modules"])
    settings = parse_lora_config(json.dumps(table).encode(), AdapterRules())
    assert (settings.rank, settings.scale, settings.targets) == (8, 1.0, ("in_proj",))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in lora_tensors().items()}
    write_adapter(tmp_path, tensors)
    pairs = read_adapter(tmp_path, shape=SHAPE, rules=RULES).pairs
    A, B = pairs["backbone.layers.1.mixer.x_proj"]
    assert A.dtype == B.dtype == dtype
    assert torch.equal(A, tensors[key(1, "x_proj", "A")])
    assert torch.equal(B, tensors[key(1, "x_proj", "B")])


def test_expected_shapes_are_those_worked_out_by_hand() -> None:
    expected = expected_tensors(("x_proj",), 3, SHAPE)
    assert expected == {
        "base_model.model.backbone.layers.0.mixer.x_proj.lora_A.weight": (3, 16),
        "base_model.model.backbone.layers.0.mixer.x_proj.lora_B.weight": (9, 3),
        "base_model.model.backbone.layers.1.mixer.x_proj.lora_A.weight": (3, 16),
        "base_model.model.backbone.layers.1.mixer.x_proj.lora_B.weight": (9, 3),
    }


def test_one_module_of_zero_b_is_no_reason_to_refuse(tmp_path: Path) -> None:
    tensors = lora_tensors()
    tensors[key(0, "x_proj", "B")].zero_()
    write_adapter(tmp_path, tensors)
    assert len(read_adapter(tmp_path, shape=SHAPE, rules=RULES).pairs) == 6
