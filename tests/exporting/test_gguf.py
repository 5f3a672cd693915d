"""The file read back by the `gguf` package, and continued by a real llama.cpp where one is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Tokenizer

from seshu_swarm import checkpoints
from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.exporting.byte_vocabulary import TokenKind, byte_vocabulary, character_of
from seshu_swarm.exporting.gguf_file import check_shape, write_gguf
from seshu_swarm.mamba.shape import MambaShape

# Folder in which `npm install node-llama-cpp` was run.
LLAMA = "SESHU_NODE_LLAMA_CPP"
CONTINUING = Path(__file__).with_name("continuing.mjs")
NUM_TOKENS = 100
PROMPTS = ("हिन्दी", "1 जनवरी 2024 को", "The end . Is it ?  A\n\tb's", "தமிழ் 😀", "\u2581 _")


@pytest.fixture(scope="module")
def exported(trained_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "nano.gguf"
    write_gguf(trained_nano, path, name="nano", on_tensor=lambda share: None)
    return path


def expected_tensors(folder: Path) -> dict[str, Any]:
    """Written out by hand, as llama.cpp's loader names them."""
    ours = {name: tensor.numpy() for name, tensor in checkpoints.load_tensors(folder).items()}
    there = {
        "token_embd.weight": ours["backbone.embeddings.weight"],
        "output_norm.weight": ours["backbone.norm_f.weight"],
    }
    for block in range(checkpoints.read_shape(folder).num_blocks):
        mixer = f"backbone.layers.{block}.mixer"
        there |= {
            f"blk.{block}.attn_norm.weight": ours[f"backbone.layers.{block}.norm.weight"],
            f"blk.{block}.ssm_in.weight": ours[f"{mixer}.in_proj.weight"],
            f"blk.{block}.ssm_conv1d.weight": ours[f"{mixer}.conv1d.weight"][:, 0, :],
            f"blk.{block}.ssm_conv1d.bias": ours[f"{mixer}.conv1d.bias"],
            f"blk.{block}.ssm_x.weight": ours[f"{mixer}.x_proj.weight"],
            f"blk.{block}.ssm_dt.weight": ours[f"{mixer}.dt_proj.weight"],
            f"blk.{block}.ssm_dt.bias": ours[f"{mixer}.dt_proj.bias"],
            f"blk.{block}.ssm_d": ours[f"{mixer}.D"],
            f"blk.{block}.ssm_out.weight": ours[f"{mixer}.out_proj.weight"],
        }
        there[f"blk.{block}.ssm_a"] = -np.exp(ours[f"{mixer}.A_log"])
    return there


def test_every_tensor_is_read_back(trained_nano: Path, exported: Path) -> None:
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(exported).tensors}
    expected = expected_tensors(trained_nano)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].tensor_type == gguf.GGMLQuantizationType.F32
        assert found[name].data.shape == values.shape
        if name.endswith("ssm_a"):  # two libraries' exponentials differ in the last bit
            np.testing.assert_allclose(found[name].data, values, rtol=3e-7)
        else:
            np.testing.assert_array_equal(found[name].data, values)


def test_the_names_are_those_of_the_gguf_package(exported: Path) -> None:
    """Its own table of Mamba's tensors, which llama.cpp's converter goes by."""
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MAMBA, 2)
    endings = (".weight", ".bias")
    for source in (*MambaShape(d_model=32, num_blocks=2).all_tensors(), "lm_head.weight"):
        name = table.get_name(source, try_suffixes=endings)
        if source == "lm_head.weight":
            assert name == "output.weight"
        else:
            assert name in {tensor.name for tensor in gguf.GGUFReader(exported).tensors}


def test_metadata(trained_nano: Path, exported: Path) -> None:
    reader = gguf.GGUFReader(exported)
    found = {name: field.contents() for name, field in reader.fields.items()}
    expected = {
        "general.architecture": "mamba",
        "general.name": "nano",
        "mamba.embedding_length": 32,
        "mamba.block_count": 2,
        "mamba.ssm.conv_kernel": 4,
        "mamba.ssm.inner_size": 64,
        "mamba.ssm.state_size": 16,
        "mamba.ssm.time_step_rank": 2,
        "mamba.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }
    assert {name: found[name] for name in expected} == expected
    assert len(found["tokenizer.ggml.tokens"]) == 384


def test_an_untied_head_is_written(tmp_path: Path) -> None:
    shape = MambaShape(d_model=16, num_blocks=1, tie_embeddings=False)
    rng = torch.Generator().manual_seed(0)
    tensors = {n: torch.randn(s, generator=rng) for n, s in shape.all_tensors().items()}
    checkpoints.save_checkpoint(tmp_path / "m", shape=shape, tensors=tensors, about={}, card="")
    write_gguf(tmp_path / "m", tmp_path / "m.gguf", name="m", on_tensor=lambda share: None)
    found = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    np.testing.assert_array_equal(found["output.weight"], tensors["lm_head.weight"].numpy())


def test_the_same_checkpoint_gives_the_same_bytes(trained_nano: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_gguf(trained_nano, tmp_path / name, name="x", on_tensor=lambda share: None)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_progress_ends_at_one(trained_nano: Path, tmp_path: Path) -> None:
    heard: list[float] = []
    write_gguf(trained_nano, tmp_path / "a", name="x", on_tensor=heard.append)
    assert heard == sorted(heard) and heard[-1] == 1.0


def test_a_damaged_checkpoint_leaves_nothing(trained_nano: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(trained_nano, folder)
    shard = folder / "model-block-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(PackageError):
        write_gguf(folder, tmp_path / "a.gguf", name="x", on_tensor=lambda share: None)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_llama_cpp_does_not_compute_is_named() -> None:
    with pytest.raises(UsageError, match="expand 3"):
        check_shape(MambaShape(d_model=16, num_blocks=1, expand=3))
    with pytest.raises(UsageError, match="258 ids; 259 or more"):
        check_shape(MambaShape(d_model=16, num_blocks=1, vocab_size=258))


def test_the_vocabulary_is_bytes_by_another_s_bpe() -> None:
    """transformers' GPT-2 tokeniser over our tokens; it takes no merge without a token for it."""
    ids = {token: index for index, token in enumerate(byte_vocabulary(384).tokens)}
    tokeniser = GPT2Tokenizer(vocab=ids, merges=[])
    for text in PROMPTS:
        found = tokeniser(text)["input_ids"]
        assert found == [byte + 3 for byte in text.encode("utf-8")]


def test_vocabulary_by_id() -> None:
    vocabulary = byte_vocabulary(384)
    assert len(vocabulary.tokens) == len(vocabulary.kinds) == len(set(vocabulary.tokens)) == 384
    assert vocabulary.tokens[:3] == ("<pad>", "</s>", "<unk>")
    assert vocabulary.tokens[3 + ord("a")] == "a"
    assert vocabulary.tokens[3 + ord(" ")] == "Ġ"
    assert vocabulary.tokens[3 + ord("\n")] == "Ċ"
    assert vocabulary.kinds[3:259] == (TokenKind.NORMAL,) * 256
    assert vocabulary.kinds[259:] == (TokenKind.UNUSED,) * 125


@given(st.text())
def test_the_merge_happens_in_no_text(text: str) -> None:
    left, right = (character_of(byte) for byte in (0xFE, 0xFF))
    written = {character_of(byte) for byte in text.encode("utf-8", errors="ignore")}
    assert not written & {left, right}


def test_a_real_llama_cpp_continues_with_the_same_tokens(
    trained_nano: Path, exported: Path
) -> None:
    """For each prompt: the same ids, the same text back, and the same 100 greedy tokens."""
    node, folder = shutil.which("node"), os.environ.get(LLAMA)
    if node is None or not folder:
        pytest.skip(f"no llama.cpp: npm install node-llama-cpp, and name the folder in {LLAMA}")
    done = subprocess.run(
        [node, str(CONTINUING), folder, str(exported), str(NUM_TOKENS)],
        input=json.dumps(PROMPTS),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    model = checkpoints.load_whole(trained_nano)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = [byte + 3 for byte in prompt.encode("utf-8")]
        assert answer["tokens"] == ids
        assert answer["text"] == prompt
        expected = model.generate_greedy(ids, max_new_tokens=NUM_TOKENS, stop_ids=(1,))
        assert answer["found"] == expected
        assert len(set(expected)) > 5, "a model that says one byte for ever compares nothing"
