"""LoRA, rsLoRA and DoRA by peft: every tensor trains, merging is exact, saving and loading too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import MambaForCausalLM

from seshu_swarm.mamba.model import LORA_TARGETS, SeshuMambaConfig, SeshuMambaForCausalLM
from seshu_swarm.mamba.shape import MambaShape

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=32, num_blocks=2)
ALL_TARGETS = (*LORA_TARGETS, "dt_proj")  # the last for local use: no package may carry it
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
}


def base_model() -> SeshuMambaForCausalLM:
    torch.manual_seed(0)
    return SeshuMambaForCausalLM(SeshuMambaConfig.from_shape(SHAPE))


def some_ids(length: int = 24) -> torch.Tensor:
    torch.manual_seed(length)
    return torch.randint(3, 259, (2, length))


def trained(kind: str, **others: Any) -> Any:
    """A model with adapters after a few steps: no factor is zero any more."""
    rules = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=list(ALL_TARGETS),
        task_type="CAUSAL_LM",
        **KINDS[kind],
        **others,
    )
    model = peft.get_peft_model(base_model(), rules)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.02)
    ids = some_ids()
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return model


@torch.inference_mode()
def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model.eval()(input_ids=ids).logits
    return logits


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-5 of the largest logit."""
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_arrives_in_every_tensor(kind: str) -> None:
    model = trained(kind)
    tensors = {n: p for n, p in model.named_parameters() if p.requires_grad}
    of_each = 3 if kind == "dora" else 2
    assert len(tensors) == of_each * len(ALL_TARGETS) * SHAPE.num_blocks
    for name, parameter in tensors.items():
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_merging_changes_the_logits_by_rounding_only(kind: str, tmp_path: Path) -> None:
    model, ids = trained(kind), some_ids(33)
    expected = logits_of(model, ids)
    assert float((expected - logits_of(base_model(), ids)).abs().max()) > 0.01
    merged = model.merge_and_unload()
    assert_close(logits_of(merged, ids), expected)
    merged.save_pretrained(tmp_path)
    stock = MambaForCausalLM.from_pretrained(tmp_path)
    assert_close(logits_of(stock, ids), expected)


def test_merging_equals_the_product_of_the_factors() -> None:
    model = trained("lora")
    layers = {n: m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    assert len(layers) == len(ALL_TARGETS) * SHAPE.num_blocks
    expected = {
        name: layer.base_layer.weight.double()
        + 2.0 * layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double()
        for name, layer in layers.items()
    }
    merged = model.merge_and_unload()
    for name, weight in expected.items():
        found = merged.get_submodule(name.removeprefix("base_model.model.")).weight
        assert torch.allclose(found.double(), weight, atol=1e-6), name


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(kind: str, tmp_path: Path) -> None:
    model, ids = trained(kind), some_ids(17)
    # "auto" would ask the Hub whether the vocabulary was changed.
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    again = peft.PeftModel.from_pretrained(base_model(), str(tmp_path))
    assert torch.equal(logits_of(again, ids), logits_of(model, ids))


def test_an_adapter_generates_from_its_cache_what_its_whole_model_would() -> None:
    model, ids = trained("lora").eval(), some_ids(9)
    mask = torch.ones_like(ids)
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    found = model.generate(input_ids=ids, attention_mask=mask, **options)
    whole = model.generate(input_ids=ids, attention_mask=mask, use_cache=False, **options)
    assert found.shape == (2, 21)
    assert torch.equal(found, whole)


def test_gradient_checkpointing_under_peft_gives_the_same_gradients() -> None:
    ids, gradients = some_ids(), []
    for enabled in (False, True):
        base = base_model()
        if enabled:
            base.activation_checkpointing_enable()
        rules = peft.LoraConfig(
            r=4, target_modules=list(ALL_TARGETS), task_type="CAUSAL_LM", init_lora_weights=False
        )
        torch.manual_seed(1)
        model = peft.get_peft_model(base, rules).train()
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, expected in gradients[0].items():
        assert float(expected.abs().max()) > 0, name
        assert torch.equal(gradients[1][name], expected), name


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
def test_peft_s_preparation_for_quantised_bases_freezes_and_checkpoints() -> None:
    base = base_model()
    base.is_loaded_in_8bit = True  # what peft goes by; no weight is quantised here
    prepared = peft.prepare_model_for_kbit_training(base)
    assert prepared.is_gradient_checkpointing
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    # A frozen base that is checkpointed needs an input with a gradient, or the adapters get none.
    assert prepared.get_input_embeddings()(some_ids()).requires_grad
