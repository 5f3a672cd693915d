"""int8 against arithmetic done by hand and in float64; the folder read back; the measured loss."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors import torch as safetensors_torch

from seshu_swarm import __main__, checkpoints, packages
from seshu_swarm.checkpoints.int8 import FILE, is_int8, load_int8, projections, write_int8
from seshu_swarm.data import phrasebook
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.data.windows import windows_of_documents
from seshu_swarm.errors import DataError, DigestError, PackageError, UsageError
from seshu_swarm.exporting.comparing import score
from seshu_swarm.mamba.int8_linear import Int8Linear, rounded
from seshu_swarm.program import cli
from tests.evaluate.nano import write_folder

torch.set_num_threads(1)


def test_rounding_by_hand() -> None:
    q, scale = rounded(torch.tensor([[1.27, -0.64, 0.0], [0.0, 0.0, 0.0]]))
    assert q.tolist() == [[127, -64, 0], [0, 0, 0]]
    torch.testing.assert_close(scale, torch.tensor([[0.01], [1.0]]))


@settings(max_examples=30)
@given(st.integers(1, 70), st.integers(2, 40), st.integers(1, 33), st.integers(0, 1_000))
def test_the_product_is_that_of_the_rounded_numbers(
    tokens: int, inputs: int, outputs: int, seed: int
) -> None:
    """Integers are multiplied in int64 here, whatever kernel the layer runs on."""
    rng = torch.Generator().manual_seed(seed)
    weight, x = (
        torch.randn(outputs, inputs, generator=rng),
        torch.randn(tokens, inputs, generator=rng),
    )
    (q_w, s_w), (q_x, s_x) = rounded(weight), rounded(x)
    exact = (q_x.long() @ q_w.long().T).double() * s_x.double() * s_w.double().T
    found = Int8Linear(q_w, s_w[:, 0])(x[None])
    assert found.shape == (1, tokens, outputs)
    torch.testing.assert_close(found[0].double(), exact, rtol=1e-6, atol=1e-6)


def test_one_input_is_refused() -> None:
    with pytest.raises(UsageError, match="two or more"):
        Int8Linear(torch.ones(3, 1, dtype=torch.int8), torch.ones(3))


def test_the_error_is_that_of_half_a_unit() -> None:
    """|x·w - x̂·ŵ| ≤ Σ (|x| s_w / 2 + |ŵ| s_x / 2), for each output."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 64, generator=rng).double()
    x = torch.randn(9, 64, generator=rng).double()
    q, scale = rounded(weight.float())
    found = Int8Linear(q, scale[:, 0])(x.float()[None])[0].double()
    step_x = x.abs().amax(dim=1, keepdim=True) / 127
    kept = (q * scale).double().abs()
    bound = x.abs() @ (scale.double() / 2).expand_as(weight).T + step_x / 2 * kept.sum(dim=1)
    assert bool(((found - x @ weight.T).abs() <= bound + 1e-5).all())


@pytest.fixture(scope="module")
def int8_folder(trained_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "nano-int8"
    write_int8(trained_nano, folder)
    return folder


def test_what_is_written(trained_nano: Path, int8_folder: Path) -> None:
    ours = checkpoints.load_tensors(trained_nano)
    small = set(projections(checkpoints.read_shape(trained_nano)))
    assert len(small) == 6
    with safe_open(int8_folder / FILE, framework="pt") as file:
        assert set(file.keys()) == ours.keys() | {f"{name}.scale" for name in small}
        for name, values in ours.items():
            found = file.get_tensor(name)
            if name in small:
                again = found.float() * file.get_tensor(f"{name}.scale")[:, None]
                peak = values.abs().amax(dim=1, keepdim=True)
                assert bool(((again - values).abs() <= peak / 254 * 1.001).all())
            else:
                assert torch.equal(found, values)


def test_the_parent_is_named_and_the_digest_is_stable(
    trained_nano: Path, int8_folder: Path, tmp_path: Path
) -> None:
    manifest = packages.verify(int8_folder)
    assert manifest.about["parent"] == packages.read_manifest(trained_nano).digest
    assert write_int8(trained_nano, tmp_path / "again") == manifest.digest


def test_it_is_a_little_worse_and_much_smaller(trained_nano: Path, int8_folder: Path) -> None:
    documents = phrasebook.build(("hi",), 0, documents_per_language=44).documents["hi"][40:]
    windows = windows_of_documents(ByteTokeniser(), documents)
    before = score(checkpoints.load_whole(trained_nano), windows).bits_per_byte
    after = score(load_int8(int8_folder), windows).bits_per_byte
    assert before < 3.0, "an untrained model has nothing to lose"
    assert before != after
    assert abs(after - before) < 0.02


def test_tokens_one_by_one_are_those_of_a_prompt(int8_folder: Path) -> None:
    """Activations are rounded token by token, so the recurrence sees the same numbers."""
    model = load_int8(int8_folder)
    ids = torch.tensor([[byte + 3 for byte in "1 जनवरी".encode()]])
    with torch.inference_mode():
        whole = model.logits(ids)
        state = model.zero_state()
        steps = []
        for place in range(ids.shape[1]):
            logits, state = model.step(ids[:, place], state)
            steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, rtol=0.05, atol=0.05)


def test_damage_is_named(int8_folder: Path, trained_nano: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="an int8 checkpoint is wanted"):
        load_int8(trained_nano)
    changed = tmp_path / "changed"
    shutil.copytree(int8_folder, changed)
    data = bytearray((changed / FILE).read_bytes())
    data[-1] ^= 1
    (changed / FILE).write_bytes(data)
    with pytest.raises(DigestError):
        load_int8(changed)


@pytest.mark.parametrize("damage", ["missing", "type", "nan", "torn"])
def test_a_stranger_s_file_is_checked(int8_folder: Path, tmp_path: Path, damage: str) -> None:
    """Its own manifest is right, so the digests do not help."""
    folder = tmp_path / "m"
    shutil.copytree(int8_folder, folder)
    with safe_open(folder / FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    first = "backbone.layers.0.mixer.in_proj.weight"
    match damage:
        case "missing":
            del tensors[first + ".scale"]
        case "type":
            tensors[first] = tensors[first].float()
        case "nan":
            tensors[first + ".scale"][0] = float("nan")
    data = safetensors_torch.save(tensors)
    (folder / FILE).write_bytes(data[:-9] if damage == "torn" else data)
    manifest = packages.read_manifest(folder)
    packages.seal(folder, manifest.kind, list(manifest.files), manifest.about)
    with pytest.raises(PackageError, match=FILE):
        load_int8(folder)


def export(*flags: str) -> int:
    return cli.main("seshu", __main__.COMMANDS, about="", arguments=["export", *flags])


def test_the_command_measures_the_loss_on_given_text(trained_nano: Path, tmp_path: Path) -> None:
    documents = phrasebook.build(("hi",), 0, documents_per_language=44).documents["hi"][40:]
    text, report = tmp_path / "hi.txt", tmp_path / "report.json"
    text.write_text("\n\n".join(d.text for d in documents), encoding="utf-8")
    flags = ["--int8", "--text", str(text), "--out", str(tmp_path / "out")]
    assert export(str(trained_nano), *flags, "--report", str(report)) == 0
    results = json.loads(report.read_text())["results"]
    assert results["bytes_after"] == (tmp_path / "out" / FILE).stat().st_size
    shards = sum(path.stat().st_size for path in trained_nano.glob("*.safetensors"))
    assert results["bytes_before"] == shards > results["bytes_after"]
    assert 0 < abs(results["bits_per_byte_after"] - results["bits_per_byte_before"]) < 0.02
    assert 0 < results["scored_bytes"] <= text.stat().st_size


def test_wrong_input_is_named(
    trained_nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, empty = str(trained_nano), tmp_path / "empty.txt"
    empty.write_text("\n\n")
    out, missing = ("--out", str(tmp_path / "a")), str(tmp_path / "no.txt")
    for flags, code, said in (
        (("--int8", "--gguf"), UsageError.exit_code, "both --gguf and --int8"),
        (("--gguf", "--text", "x"), UsageError.exit_code, "without --int8"),
        (("--int8", "--text-bytes", "3"), UsageError.exit_code, "at least 1000"),
        (("--int8", "--out", str(tmp_path)), UsageError.exit_code, "there already"),
        (("--int8", "--text", missing, *out), DataError.exit_code, "is not there"),
        (("--int8", "--text", str(empty), *out), DataError.exit_code, "has no text"),
    ):
        assert export(model, *flags) == code
        assert said in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_it_is_scored_and_proven_beside_its_checkpoint(
    trained_nano: Path, int8_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `evaluate`, as any model: a little worse, and coded text that decodes."""
    monkeypatch.chdir(tmp_path)
    assert is_int8(int8_folder) and not is_int8(trained_nano)
    write_folder(tmp_path / "data", ["hi"], documents=2)
    flags = ("--data", "data", "--floors", "none", "--prove", "--report", "report.json")
    given = ["evaluate", str(int8_folder), "--against", str(trained_nano), *flags]
    assert cli.main("seshu_swarm", __main__.COMMANDS, about="", arguments=given) == 0
    results = json.loads(Path("report.json").read_bytes())["results"]
    ours, theirs = (
        results[f"bits_per_byte {folder.name}"] for folder in (int8_folder, trained_nano)
    )
    assert ours != theirs and abs(ours - theirs) < 0.02
