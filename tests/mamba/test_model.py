"""The transformers class: equal to stock Mamba, exact in loss, gradient and bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, DynamicCache, MambaConfig, MambaForCausalLM

from seshu_swarm import checkpoints
from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.mamba.model import SeshuMambaConfig, SeshuMambaForCausalLM
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


@pytest.mark.parametrize("tied", [True, False])
def test_folder_of_stock_transformers_is_saved_back_bit_for_bit(tmp_path: Path, tied: bool) -> None:
    torch.manual_seed(2)
    stock = MambaForCausalLM(MambaConfig.from_dict(STOCK | {"tie_word_embeddings": tied}))
    stock.config.eos_token_id = 17
    stock.save_pretrained(tmp_path / "stock")
    SeshuMambaForCausalLM.from_pretrained(tmp_path / "stock").save_pretrained(tmp_path / "ours")
    before, after = (load_file(tmp_path / n / "model.safetensors") for n in ("stock", "ours"))
    assert set(before) == set(after)
    assert ("lm_head.weight" in after) != tied
    for name, tensor in before.items():
        assert tensor.numpy().tobytes() == after[name].numpy().tobytes(), name
    again = MambaForCausalLM.from_pretrained(tmp_path / "ours")
    assert again.config.eos_token_id == 17
    assert again.config.tie_word_embeddings == tied


def test_half_precision_is_kept_only_where_asked_for(tmp_path: Path) -> None:
    MambaForCausalLM(MambaConfig.from_dict(STOCK)).bfloat16().save_pretrained(tmp_path / "stock")
    assert SeshuMambaForCausalLM.from_pretrained(tmp_path / "stock").dtype == torch.float32
    kept = SeshuMambaForCausalLM.from_pretrained(tmp_path / "stock", dtype="auto")
    kept.save_pretrained(tmp_path / "ours")
    before, after = (load_file(tmp_path / n / "model.safetensors") for n in ("stock", "ours"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["dtype"] == "bfloat16"


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """A plain transformers folder, as others make them, with other tensors."""
    SeshuMambaForCausalLM.from_pretrained(folder).save_pretrained(folder.parent / "changed")
    file = folder.parent / "changed" / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})
    return folder.parent / "changed"


def test_missing_and_foreign_tensors_and_nan_are_refused_by_name(folder: Path) -> None:
    name = "backbone.layers.1.mixer.A_log"
    with pytest.raises(PackageError, match=rf"missing tensors .*{name}"):
        SeshuMambaForCausalLM.from_pretrained(changed(folder, lambda t: t.__delitem__(name)))
    foreign = changed(folder, lambda t: t.update({"backbone.layers.1.mixer.extra": torch.ones(1)}))
    with pytest.raises(PackageError, match=r"unexpected tensors .*mixer.extra"):
        SeshuMambaForCausalLM.from_pretrained(foreign)
    spoilt = changed(folder, lambda t: t[name].fill_diagonal_(float("nan")))
    with pytest.raises(PackageError, match=f"{name} holds infinite or undefined"):
        SeshuMambaForCausalLM.from_pretrained(spoilt)


def test_another_architecture_is_refused_with_both_names(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(STOCK | {"model_type": "mamba2"}))
    with pytest.raises(PackageError, match=r"'mamba2'.*'mamba'"):
        SeshuMambaForCausalLM.from_pretrained(tmp_path)


@torch.inference_mode()
def test_logits_to_keep_and_hidden_states(folder: Path) -> None:
    model, ids = SeshuMambaForCausalLM.from_pretrained(folder), some_ids()
    stock = MambaForCausalLM.from_pretrained(folder)
    whole = model(ids, output_hidden_states=True)
    assert torch.allclose(model(ids, logits_to_keep=3).logits, whole.logits[:, -3:], atol=1e-6)
    places = torch.tensor([0, 5])
    assert torch.allclose(
        model(ids, logits_to_keep=places).logits, whole.logits[:, places], atol=1e-6
    )
    expected = stock(ids, output_hidden_states=True).hidden_states
    assert len(whole.hidden_states) == len(expected)
    for found, theirs in zip(whole.hidden_states, expected, strict=True):
        assert torch.allclose(found, theirs, atol=1e-4)
    as_tuple = model(ids, return_dict=False)
    assert torch.equal(as_tuple[0], whole.logits)


SENSELESS: list[tuple[str, Callable[[SeshuMambaForCausalLM, torch.Tensor], object]]] = [
    ("exactly one", lambda model, ids: model()),
    ("exactly one", lambda model, ids: model(ids, inputs_embeds=torch.zeros(2, 40, 32))),
    ("all logits kept", lambda model, ids: model(ids, labels=ids, logits_to_keep=2)),
    ("logits_to_keep -2", lambda model, ids: model(ids, logits_to_keep=-2)),
    ("token id -1; 0 to 383", lambda model, ids: model(ids * 0 - 1)),
    ("token id 384; 0 to 383", lambda model, ids: model(ids * 0 + 384)),
    ("of torch.float32", lambda model, ids: model(ids.float())),
    (r"input_ids \(40,\)", lambda model, ids: model(ids[0])),
    ("input_ids of list", lambda model, ids: model(ids.tolist())),
    ("inputs_embeds .*d_model = 32", lambda model, ids: model(inputs_embeds=torch.zeros(1, 2, 31))),
    ("of torch.float64", lambda model, ids: model(inputs_embeds=torch.zeros(1, 2, 32).double())),
    ("labels with token id 1000", lambda model, ids: model(ids, labels=ids * 0 + 1000)),
    ("labels with token id -5", lambda model, ids: model(ids, labels=ids * 0 - 5)),
    (r"labels \(40,\)", lambda model, ids: model(ids, labels=ids[0])),
    ("labels .*of torch.float32", lambda model, ids: model(ids, labels=ids.float())),
    ("cache_params of list", lambda model, ids: model(ids, cache_params=[])),
    ("cache_params of DynamicCache", lambda model, ids: model(ids, cache_params=DynamicCache())),
    ("past_key_values", lambda model, ids: model(ids, past_key_values=model(ids).cache_params)),
    ("without tokens", lambda model, ids: model.generate(ids[:1, :0], max_new_tokens=2)),
    ("without tokens", lambda model, ids: model.generate(ids[:0], max_new_tokens=2)),
    ("nothing but padding", lambda model, ids: model.generate(ids * 0, max_new_tokens=2)),
]


@pytest.mark.parametrize(("said", "call"), SENSELESS, ids=[said for said, _ in SENSELESS])
def test_senseless_calls_are_refused(
    folder: Path, said: str, call: Callable[[SeshuMambaForCausalLM, torch.Tensor], object]
) -> None:
    model = SeshuMambaForCausalLM.from_pretrained(folder).eval()
    with pytest.raises(UsageError, match=said):
        call(model, some_ids())


def test_gradient_checkpointing_gives_the_same_gradients_and_keeps_less(folder: Path) -> None:
    ids = some_ids(length=30)
    gradients, saved_bytes = [], []
    for enabled in (False, True):
        model = SeshuMambaForCausalLM.from_pretrained(folder).train()
        if enabled:
            model.activation_checkpointing_enable()
        assert model.is_gradient_checkpointing is enabled
        kept = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = model(input_ids=ids, labels=ids).loss
        saved_bytes.append(kept)
        loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
    assert saved_bytes[1] < saved_bytes[0] / 2


def test_fresh_model_through_the_auto_class_is_initialised_as_the_paper_says() -> None:
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_config(SeshuMambaConfig.from_shape(SHAPE))
    assert isinstance(model, SeshuMambaForCausalLM)
    assert model.lm_head.weight is model.backbone.embeddings.weight
    assert abs(float(model.backbone.embeddings.weight.detach().std()) - 0.02) < 0.002
    mixer = model.get_submodule("backbone.layers.0.mixer")
    assert torch.allclose(mixer.A_log.exp()[3], torch.arange(1.0, 17.0))
