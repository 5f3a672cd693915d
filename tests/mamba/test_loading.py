"""What is wrong with a folder on disk is said by name, whichever way the model is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MambaConfig, MambaForCausalLM

from seshu_swarm import checkpoints
from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.mamba.model import SeshuMambaConfig, SeshuMambaForCausalLM
from seshu_swarm.mamba.shape import MambaShape

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=16, num_blocks=2)
FILE = "model.safetensors"
NAME = "backbone.layers.1.mixer.D"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("saved")
    SeshuMambaForCausalLM(SeshuMambaConfig.from_shape(SHAPE)).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def refusals(folder: Path) -> list[str]:
    """What both ways of loading say."""
    said = []
    for load in (SeshuMambaForCausalLM.from_pretrained, checkpoints.load_whole):
        with pytest.raises(PackageError) as caught:
            load(folder)
        assert caught.value.rule and caught.value.way_out, str(caught.value)
        said.append(str(caught.value))
    return said


def with_tensors(folder: Path, change: Callable[[Tensors], object]) -> Path:
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE, {"format": "pt"})
    return folder


def with_config(folder: Path, **fields: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def test_a_folder_that_is_not_there_or_is_another_thing_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("not a folder")
    for name in ("absent", "empty", "file"):
        assert all(str(tmp_path / name) in said for said in refusals(tmp_path / name))


def test_what_is_no_path_at_all_is_refused() -> None:
    wrong: Any
    for wrong in (None, 3, ["a"]):
        with pytest.raises(UsageError, match="a folder, or a repository's name"):
            SeshuMambaForCausalLM.from_pretrained(wrong)


@pytest.mark.parametrize("kept_bytes", [0, 4, 200, -100])
def test_a_file_cut_short_is_named(folder: Path, kept_bytes: int) -> None:
    file = folder / FILE
    file.write_bytes(file.read_bytes()[:kept_bytes])
    assert all(FILE in said for said in refusals(folder))


def test_bytes_that_are_no_tensors_are_named(folder: Path) -> None:
    (folder / FILE).write_bytes(b"\xff" * 1000)
    assert all(FILE in said for said in refusals(folder))


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / FILE).unlink()
    assert all("model" in said for said in refusals(folder))


def test_a_tensor_of_another_shape_is_refused_with_both(folder: Path) -> None:
    for said in refusals(with_tensors(folder, lambda t: t.update({NAME: torch.zeros(3)}))):
        assert NAME in said and "[3]" in said and "[32]" in said


def test_a_tensor_of_another_shape_is_taken_where_transformers_is_told_so(folder: Path) -> None:
    with_tensors(folder, lambda t: t.update({NAME: torch.zeros(3)}))
    model = SeshuMambaForCausalLM.from_pretrained(folder, ignore_mismatched_sizes=True)
    assert model.get_parameter(NAME).shape == (32,)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.float8_e4m3fn])
def test_numbers_that_would_be_converted_silently_are_refused(
    folder: Path, dtype: torch.dtype
) -> None:
    spoilt = with_tensors(folder, lambda t: t.update({NAME: torch.ones(32).to(dtype)}))
    assert all(NAME in said and "of type" in said for said in refusals(spoilt))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(folder: Path, number: float) -> None:
    spoilt = with_tensors(folder, lambda t: t[NAME].fill_(number))
    assert all(NAME in said and "infinite or undefined" in said for said in refusals(spoilt))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model_type", "mamba2", "'mamba2'"),
        ("hidden_size", -3, "d_model -3"),
        ("num_hidden_layers", "2", "num_blocks '2'"),
        ("vocab_size", 10**12, "vocab_size 1000000000000"),
        ("state_size", 0, "d_state 0"),
        ("expand", None, "expand None"),
        ("time_step_rank", [1], "dt_rank list"),
        ("layer_norm_epsilon", "x", "norm epsilon 'x'"),
        ("tie_word_embeddings", "no", "tie_embeddings 'no'"),
        ("use_bias", True, "use_bias = True"),
        ("intermediate_size", 99, "intermediate_size 99"),
    ],
)
def test_sizes_that_are_no_model_of_ours_are_refused(
    folder: Path, field: str, value: Any, said: str
) -> None:
    for refusal in refusals(with_config(folder, **{field: value})):
        assert said in refusal and str(folder) in refusal


@pytest.mark.parametrize("text", ["[1, 2]", "{not json", "[" * 100_000, "\ufeff{}", "null"])
def test_a_configuration_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    refusals(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "nonsense"),
        ("dtype", "int8"),
        ("dtype", 5),
        ("pad_token_id", "x"),
        ("pad_token_id", SHAPE.vocab_size),
        ("bos_token_id", [1, 2]),
        ("eos_token_id", -1),
    ],
)
def test_what_only_the_transformers_class_reads_is_checked_there(
    folder: Path, field: str, value: Any
) -> None:
    with pytest.raises(PackageError, match=field):
        SeshuMambaForCausalLM.from_pretrained(with_config(folder, **{field: value}))


def test_several_end_tokens_are_read(folder: Path) -> None:
    with_config(folder, eos_token_id=[1, 2])
    assert SeshuMambaForCausalLM.from_pretrained(folder).config.eos_token_id == [1, 2]


def test_the_configuration_of_the_stock_class_may_be_given(folder: Path) -> None:
    config = MambaConfig.from_pretrained(folder)
    model = SeshuMambaForCausalLM.from_pretrained(folder, config=config)
    assert type(model.config) is SeshuMambaConfig
    also = SeshuMambaForCausalLM.from_pretrained(folder, config=str(folder))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, also.get_parameter(name))


def test_a_subfolder_is_read_whole(folder: Path) -> None:
    """Sizes and tensors of one place."""
    other = SeshuMambaConfig.from_shape(MambaShape(d_model=8, num_blocks=1))
    SeshuMambaForCausalLM(other).save_pretrained(folder / "small")
    model = SeshuMambaForCausalLM.from_pretrained(folder, subfolder="small")
    assert model.config.hidden_size == 8
    assert SeshuMambaForCausalLM.from_pretrained(folder).config.hidden_size == 16


def test_a_folder_with_no_room_for_a_model_is_refused(folder: Path, tmp_path: Path) -> None:
    model = SeshuMambaForCausalLM.from_pretrained(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="a file at"):
        model.save_pretrained(tmp_path / "file")
    with pytest.raises(UsageError, match=r"model\.push_to_hub"):
        model.save_pretrained(tmp_path / "sent", push_to_hub=True)
    assert not (tmp_path / "sent").exists()


def test_what_was_saved_again_is_the_same_bytes_and_stock_loads_it(
    folder: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    SeshuMambaForCausalLM.from_pretrained(folder).save_pretrained(again)
    for name in (FILE, "config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    ids = torch.arange(3, 23)[None]
    stock = MambaForCausalLM.from_pretrained(again)(ids).logits
    ours = SeshuMambaForCausalLM.from_pretrained(again)(ids).logits
    torch.testing.assert_close(ours, stock, atol=1e-4, rtol=1e-4)
