"""The transformers class: equal to stock Mamba, trainable and mergeable with stock peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM

from seshu_swarm import checkpoints
from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.model import LORA_TARGETS, SeshuMambaConfig, SeshuMambaForCausalLM
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=32, num_blocks=2)
# Stock MambaConfig defaults that are ours too; its vocabulary and widths are not.
STOCK = SHAPE.to_config()


def some_ids(batch: int = 2, length: int = 40) -> torch.Tensor:
    torch.manual_seed(length)
    return torch.randint(3, 259, (batch, length))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tensors = WholeModel(SHAPE).checkpoint_tensors()
    checkpoints.save_checkpoint(
        tmp_path / "revision", shape=SHAPE, tensors=tensors, about={}, card="A model."
    )
    return tmp_path / "revision"


def stock_logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = MambaForCausalLM.from_pretrained(folder)(ids).logits
    return logits


@torch.inference_mode()
def test_our_checkpoint_in_stock_transformers_gives_our_logits(folder: Path) -> None:
    ids = some_ids()
    whole = checkpoints.load_whole(folder).logits(ids)
    assert torch.allclose(stock_logits(folder, ids), whole, atol=1e-4)
    ours = SeshuMambaForCausalLM.from_pretrained(folder)
    assert torch.equal(ours(ids).logits, whole)


@torch.inference_mode()
def test_folder_saved_by_stock_transformers_loads_in_ours(tmp_path: Path) -> None:
    torch.manual_seed(1)
    stock = MambaForCausalLM(MambaConfig.from_dict(STOCK))
    stock.save_pretrained(tmp_path)
    ids = some_ids()
    expected = stock(ids).logits
    assert torch.allclose(checkpoints.load_whole(tmp_path).logits(ids), expected, atol=1e-4)
    ours = SeshuMambaForCausalLM.from_pretrained(tmp_path)
    assert ours.config.model_type == "seshu_mamba"
    assert torch.allclose(ours(ids).logits, expected, atol=1e-4)


def test_loss_and_its_gradient_equal_stock_transformers(folder: Path) -> None:
    ids = some_ids(length=12)
    labels = ids.clone()
    labels[:, :5] = -100
    ours = SeshuMambaForCausalLM.from_pretrained(folder)
    stock = MambaForCausalLM.from_pretrained(folder)
    losses = [model(input_ids=ids, labels=labels).loss for model in (ours, stock)]
    assert torch.allclose(losses[0], losses[1], atol=1e-5)
    for loss in losses:
        loss.backward()
    expected = dict(stock.named_parameters())
    found = dict(ours.named_parameters())
    assert set(found) == set(expected)
    for name, parameter in found.items():
        assert torch.allclose(parameter.grad, expected[name].grad, atol=1e-5, rtol=1e-3), name


def trained_adapter(folder: Path) -> Any:
    """A LoRA on all three targets after one step, so that no factor is zero."""
    base = SeshuMambaForCausalLM.from_pretrained(folder)
    rules = LoraConfig(r=4, lora_alpha=8, target_modules=list(LORA_TARGETS), task_type="CAUSAL_LM")
    model = get_peft_model(base, rules)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.05)
    ids = some_ids()
    for _ in range(2):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return model


def test_every_lora_tensor_gets_a_gradient(folder: Path) -> None:
    model = trained_adapter(folder)
    lora = {n: p for n, p in model.named_parameters() if "lora_" in n}
    assert len(lora) == 2 * len(LORA_TARGETS) * SHAPE.num_blocks
    for name, parameter in lora.items():
        assert float(parameter.grad.abs().max()) > 0, name


def test_merged_adapter_equals_the_adapter_and_stock_transformers(
    folder: Path, tmp_path: Path
) -> None:
    model = trained_adapter(folder).eval()
    ids = some_ids(length=33)
    with torch.inference_mode():
        base = checkpoints.load_whole(folder).logits(ids)
        expected = model(input_ids=ids).logits
        merged = model.merge_and_unload()
        assert torch.allclose(merged(ids).logits, expected, atol=1e-4)
    assert float((expected - base).abs().max()) > 0.01
    merged.save_pretrained(tmp_path / "merged")
    assert torch.allclose(stock_logits(tmp_path / "merged", ids), expected, atol=1e-4)
    found = checkpoints.load_whole(tmp_path / "merged").logits(ids)
    assert torch.allclose(found, expected, atol=1e-4)


@torch.inference_mode()
def test_padding_on_the_right_changes_nothing_and_on_the_left_is_refused(folder: Path) -> None:
    model = SeshuMambaForCausalLM.from_pretrained(folder)
    ids = some_ids(1, 10)
    padded = torch.cat((ids, torch.zeros(1, 4, dtype=torch.int64)), 1)
    mask = torch.tensor([[1] * 10 + [0] * 4])
    found = model(input_ids=padded, attention_mask=mask).logits[:, :10]
    assert torch.allclose(found, model(input_ids=ids).logits, atol=1e-5)
    with pytest.raises(UsageError, match="left"):
        model(input_ids=padded, attention_mask=mask.flip(1))


@torch.inference_mode()
def test_generate_of_transformers_equals_ours(folder: Path) -> None:
    model = SeshuMambaForCausalLM.from_pretrained(folder)
    prompt = some_ids(1, 6)
    found = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False
    )
    whole = checkpoints.load_whole(folder)
    expected = whole.generate_greedy(prompt[0].tolist(), max_new_tokens=8, stop_ids={1})
    assert found[0, 6:].tolist()[: len(expected)] == expected


def test_fresh_model_through_the_auto_class_is_initialised_as_the_paper_says() -> None:
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_config(SeshuMambaConfig.from_shape(SHAPE))
    assert isinstance(model, SeshuMambaForCausalLM)
    assert model.lm_head.weight is model.backbone.embeddings.weight
    assert abs(float(model.backbone.embeddings.weight.detach().std()) - 0.02) < 0.002
    mixer = model.get_submodule("backbone.layers.0.mixer")
    assert torch.allclose(mixer.A_log.exp()[3], torch.arange(1.0, 17.0))
