"""Checkpoints: the same tensors give the same digest, only needed files are read, bad ones refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import torch as safetensors_torch
from torch import Tensor
from transformers import AutoTokenizer

from seshu_swarm import checkpoints, packages
from seshu_swarm.errors import DigestError, PackageError, UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.spans import Span

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=16, num_blocks=3)
SHARD = checkpoints.block_shard(1)
NAME = "backbone.layers.1.mixer.D"


def model_tensors(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: t.detach() for name, t in WholeModel(SHAPE).checkpoint_tensors().items()}


def save(folder: Path, tensors: dict[str, Tensor], card: str = "A model.") -> str:
    return checkpoints.save_checkpoint(
        folder, shape=SHAPE, tensors=tensors, about={"round": 3}, card=card
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "revision", model_tensors())
    return tmp_path / "revision"


def test_same_tensors_give_the_same_digest_and_others_another(tmp_path: Path) -> None:
    tensors = model_tensors()
    backwards = {name: tensors[name] for name in reversed(tensors)}
    first = save(tmp_path / "a", tensors, card="one card")
    assert save(tmp_path / "b", backwards, card="another card") == first
    assert save(tmp_path / "c", model_tensors(seed=1)) != first
    assert packages.verify(tmp_path / "a", first).about == {"round": 3}


def test_tensors_come_back_bit_for_bit(folder: Path) -> None:
    tensors = model_tensors()
    loaded = checkpoints.load_tensors(folder)
    whole = checkpoints.load_whole(folder).checkpoint_tensors()
    assert set(loaded) == set(tensors) == set(whole)
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert torch.equal(whole[name], tensor)


def test_untied_head_is_saved_and_loaded(tmp_path: Path) -> None:
    shape = MambaShape(d_model=16, num_blocks=1, tie_embeddings=False)
    model = WholeModel(shape)
    tensors = model.checkpoint_tensors()
    assert "lm_head.weight" in tensors
    checkpoints.save_checkpoint(tmp_path / "u", shape=shape, tensors=tensors, about={}, card="")
    ids = torch.tensor([[4, 5, 6]])
    assert torch.equal(checkpoints.load_whole(tmp_path / "u").logits(ids), model.logits(ids))


def test_weights_of_another_type_are_saved_as_float32(tmp_path: Path) -> None:
    tensors = {name: tensor.double() for name, tensor in model_tensors().items()}
    assert save(tmp_path / "wide", tensors) == save(tmp_path / "plain", model_tensors())


def test_span_and_ends_need_only_their_files(folder: Path, tmp_path: Path) -> None:
    tensors = model_tensors()
    for names, load in (
        (checkpoints.files_for_span(Span(1, 3)), lambda f: checkpoints.load_span(f, Span(1, 3))),
        (checkpoints.files_for_ends(), checkpoints.load_ends),
    ):
        part = tmp_path / str(len(names))
        part.mkdir()
        for name in [packages.MANIFEST, *names]:
            shutil.copy(folder / name, part / name)
        module = load(part)
        for name, parameter in module.checkpoint_tensors().items():
            assert torch.equal(parameter, tensors[name])
        with pytest.raises(PackageError):
            checkpoints.load_span(part, Span(0, 1))


def test_span_outside_the_model_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError):
        checkpoints.load_span(folder, Span(2, 4))


def test_tokeniser_of_the_folder_is_byte_level(folder: Path) -> None:
    tokeniser = AutoTokenizer.from_pretrained(folder)
    assert type(tokeniser).__name__ == "ByT5Tokenizer"
    assert len(tokeniser) == SHAPE.vocab_size
    text = "नमस्ते, world"
    ids = tokeniser(text).input_ids
    assert ids == [byte + 3 for byte in text.encode()] + [1]
    assert tokeniser.decode(ids, skip_special_tokens=True) == text


def test_tokeniser_given_replaces_the_byte_level_one(tmp_path: Path) -> None:
    given = {"tokenizer.json": b"{}"}
    checkpoints.save_checkpoint(
        tmp_path / "t", shape=SHAPE, tensors=model_tensors(), about={}, card="", tokeniser=given
    )
    assert (tmp_path / "t" / "tokenizer.json").read_bytes() == b"{}"
    assert not (tmp_path / "t" / "tokenizer_config.json").exists()
    assert "tokenizer.json" in packages.read_manifest(tmp_path / "t").files


def test_an_interrupted_save_is_started_afresh(tmp_path: Path) -> None:
    leftover = tmp_path / "revision.partial"
    leftover.mkdir()
    (leftover / "half.safetensors").write_bytes(b"half")
    save(tmp_path / "revision", model_tensors())
    assert not leftover.exists()
    assert not (tmp_path / "revision" / "half.safetensors").exists()


def test_saving_again_is_harmless_and_saving_another_model_there_is_refused(folder: Path) -> None:
    before = packages.read_manifest(folder).digest
    assert save(folder, model_tensors()) == before
    with pytest.raises(DigestError):
        save(folder, model_tensors(seed=1))
    assert packages.verify(folder).digest == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.pop(NAME),
        lambda t: t.update(extra=torch.zeros(1)),
        lambda t: t.update({NAME: torch.full((32,), float("nan"))}),
        lambda t: t.update({NAME: torch.zeros(33)}),
        lambda t: t.update({NAME: torch.zeros(32, dtype=torch.int32)}),
    ],
)
def test_tensors_that_do_not_fit_are_not_saved(
    tmp_path: Path, spoil: Callable[[dict[str, Tensor]], object]
) -> None:
    tensors = model_tensors()
    spoil(tensors)
    with pytest.raises(PackageError):
        save(tmp_path / "bad", tensors)
    assert list(tmp_path.iterdir()) == []


def seal_again(folder: Path) -> None:
    """What an attacker does who publishes the package: the manifest names the bad bytes."""
    manifest = packages.read_manifest(folder)
    packages.seal(folder, manifest.kind, manifest.files, manifest.about)


def rewrite(folder: Path, spoil: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = safetensors_torch.load_file(folder / SHARD)
    spoil(tensors)
    safetensors_torch.save_file(tensors, folder / SHARD)
    seal_again(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.pop(NAME),
        lambda t: t.update({"backbone.norm_f.weight": torch.ones(16)}),
        lambda t: t[NAME].fill_(float("inf")),
        lambda t: t.update({NAME: torch.zeros(32, 1)}),
        lambda t: t.update({NAME: torch.zeros(32, dtype=torch.int32)}),
    ],
)
def test_hostile_shards_are_refused_by_file_and_tensor(
    folder: Path, spoil: Callable[[dict[str, Tensor]], object]
) -> None:
    rewrite(folder, spoil)
    with pytest.raises(PackageError, match=SHARD):
        checkpoints.load_span(folder, Span(1, 2))
    checkpoints.load_span(folder, Span(0, 1))


@pytest.mark.parametrize("data", [b"", b"not safetensors", b"\xff" * 200])
def test_shards_that_are_no_safetensors_are_refused(folder: Path, data: bytes) -> None:
    (folder / SHARD).write_bytes(data)
    seal_again(folder)
    with pytest.raises(PackageError, match=SHARD):
        checkpoints.load_whole(folder)


def test_one_changed_bit_is_refused(folder: Path) -> None:
    data = bytearray((folder / SHARD).read_bytes())
    data[-1] ^= 1
    (folder / SHARD).write_bytes(data)
    with pytest.raises(DigestError, match=SHARD):
        checkpoints.load_span(folder, Span(1, 2))


@pytest.mark.parametrize("data", [b"", b"[1", b"[]", b"7", b"[" * 100_000, b" " * (2 << 20)])
def test_hostile_configs_are_refused(folder: Path, data: bytes) -> None:
    (folder / checkpoints.CONFIG).write_bytes(data)
    with pytest.raises(PackageError):
        checkpoints.read_shape(folder)


def test_a_package_of_another_kind_is_refused(folder: Path) -> None:
    manifest = packages.read_manifest(folder)
    packages.seal(folder, "adapter", manifest.files, {})
    with pytest.raises(PackageError, match="adapter"):
        checkpoints.load_whole(folder)


def test_index_names_the_shard_of_every_tensor(folder: Path) -> None:
    index = json.loads((folder / checkpoints.INDEX).read_text())
    assert set(index["weight_map"]) == set(SHAPE.all_tensors())
    assert index["weight_map"][NAME] == SHARD
    assert index["metadata"]["total_size"] == 4 * SHAPE.num_parameters
