"""A donor's LoRA: real training of a tiny model, the package, its merge, and resuming."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import runpy
from pathlib import Path
from random import Random

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import MambaForCausalLM

from seshu_swarm.adapters.delta import delta_of
from seshu_swarm.adapters.reader import read_adapter
from seshu_swarm.adapters.rules import AdapterRules
from seshu_swarm.checkpoints import load_tensors, load_whole, save_checkpoint
from seshu_swarm.data.batches import pack_documents
from seshu_swarm.data.phrasebook import documents_of, rows_of
from seshu_swarm.data.prompts import encode_row, prompt_of
from seshu_swarm.data.text import Document, Row
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import DataError, DigestError, TrainingError, UsageError
from seshu_swarm.mamba.model import SeshuMambaForCausalLM
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating.lora import LoraResult, finetune
from seshu_swarm.peer.donating.lora_model import check_trained, load_lora_model
from seshu_swarm.peer.donating.lora_rows import hold_out
from seshu_swarm.peer.donating.lora_settings import LoraSettings, lora_settings
from seshu_swarm.training.feeding import RowBatches, TextBatches
from seshu_swarm.training.loop import StepReport, train
from seshu_swarm.training.schedule import Budget, Schedule

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=32, num_blocks=2)
SETTINGS = LoraSettings(
    rank=4,
    learning_rate=0.01,
    max_steps=20,
    max_tokens=96,
    batch_tokens=512,
    state_period_seconds=0,
    seed=3,
)
ROWS = rows_of("hi", ["ta"], Random(0))[:150]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A checkpoint, trained a little on running text, and its digest."""
    folder = tmp_path_factory.mktemp("base") / "checkpoint"
    torch.manual_seed(0)
    model, documents = WholeModel(SHAPE), documents_of("hi", 40, Random(1))
    sequences = pack_documents(ByteTokeniser(), documents, 64, np.random.default_rng(0))
    batches = TextBatches({"hi": sequences}, batch_size=8, seed=0)
    train(model, batches, schedule=Schedule(learning_rate=0.02), budget=Budget(max_steps=40))
    tensors = model.checkpoint_tensors()
    return folder, save_checkpoint(folder, shape=SHAPE, tensors=tensors, about={}, card="")


@pytest.fixture(scope="module")
def trained(base: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> LoraResult:
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    result = finetune(base[0], ROWS, folder, settings=SETTINGS)
    assert result is not None
    return result


def merged(base_folder: Path, adapter_folder: Path) -> WholeModel:
    """The base with ΔW added, through the strict reader and our own product."""
    adapter = read_adapter(adapter_folder, shape=SHAPE, rules=AdapterRules())
    delta = delta_of(adapter)
    model = load_whole(base_folder)
    with torch.no_grad():
        for name, parameter in model.checkpoint_tensors().items():
            if name in delta:
                parameter.add_(delta[name].float())
    return model


def answer_nats(model: WholeModel, rows: tuple[Row, ...]) -> float:
    """Nats per answer byte, one row after another."""
    tokeniser, nats, num_bytes = ByteTokeniser(), 0.0, 0
    for row in rows:
        prompt, answer = tokeniser.encode(prompt_of(row)), tokeniser.encode(row.output)
        with torch.no_grad():
            log_probs = model.logits(torch.tensor([prompt + answer]))[0].double().log_softmax(-1)
        nats -= sum(float(log_probs[len(prompt) + i - 1, id]) for i, id in enumerate(answer))
        num_bytes += len(row.output.encode())
    return nats / num_bytes


def held_out() -> tuple[Row, ...]:
    return hold_out(ROWS, share=0.1, max_rows=200)[1]


def test_no_answer_and_no_question_is_on_both_sides() -> None:
    rows = [Row(f"question {n}", "", f"answer {n // 2}", "en") for n in range(100)]
    rows += [Row(f"question {n}", "", f"other {n}", "en") for n in range(100)]
    kept, held = hold_out(rows, share=0.2, max_rows=1_000)
    assert 30 <= len(held) <= 40
    assert not {row.output for row in kept} & {row.output for row in held}
    assert not {row.instruction for row in kept} & {row.instruction for row in held}


def test_holding_out_depends_on_content_only() -> None:
    shuffled = [*ROWS, *ROWS[:40]]
    Random(5).shuffle(shuffled)
    first, second = (hold_out(rows, share=0.1, max_rows=10) for rows in (ROWS, shuffled))
    assert first[1] == second[1]
    assert {row.digest for row in first[0]} == {row.digest for row in second[0]}
    assert len(first[1]) == 10


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [Row("question", "", "answer", "en")],
        [Row(f"question {n}", "", "the same", "en") for n in range(9)],
        [Row(f"question {n}", "", " ", "en") for n in range(9)],
    ],
)
def test_rows_without_two_answers_are_refused(rows: list[Row]) -> None:
    with pytest.raises(DataError, match="different answers"):
        hold_out(rows, share=0.1, max_rows=10)


def test_a_frequent_answer_is_not_held_out() -> None:
    rows = [Row(f"question {n}", "", "yes", "en") for n in range(90)]
    rows += [Row(f"why {n}", "", f"because {n}", "en") for n in range(10)]
    kept, held = hold_out(rows, share=0.05, max_rows=100)
    assert len(held) == 5 and "yes" not in {row.output for row in held}
    assert len(kept) == 95


def test_losses_are_those_of_the_base_and_of_the_merged_model(
    base: tuple[Path, str], trained: LoraResult
) -> None:
    before = answer_nats(load_whole(base[0]), held_out())
    after = answer_nats(merged(base[0], trained.folder), held_out())
    assert trained.loss_before == pytest.approx(before, rel=1e-4)
    assert trained.loss_after == pytest.approx(after, rel=1e-4)
    assert after < before - 0.02
    assert trained.bits_per_byte_after == pytest.approx(after / math.log(2), rel=1e-4)
    assert trained.num_held_out_rows == len(held_out()) == 15


def test_package_passes_the_strict_reader(base: tuple[Path, str], trained: LoraResult) -> None:
    adapter = read_adapter(
        trained.folder,
        shape=SHAPE,
        rules=AdapterRules(max_rank=4, max_scale=2.0),
        digest=trained.digest,
        base_revision=base[1],
    )
    assert (adapter.rank, adapter.scale) == (4, 2.0)
    assert adapter.about["language"] == "hi"
    assert adapter.about["num_rows"] == trained.num_rows
    assert all(bool(B.any()) for _, B in adapter.pairs.values())


def test_merged_model_equals_peft_with_the_package(
    base: tuple[Path, str], trained: LoraResult
) -> None:
    model = SeshuMambaForCausalLM.from_pretrained(base[0])
    with_adapter = peft.PeftModel.from_pretrained(model, str(trained.folder)).eval()
    ids, _ = encode_row(ByteTokeniser(), ROWS[0], 96)
    with torch.no_grad():
        expected = with_adapter(input_ids=torch.tensor([ids])).logits
        found = merged(base[0], trained.folder).logits(torch.tensor([ids]))
        plain = load_whole(base[0]).logits(torch.tensor([ids]))
    assert torch.allclose(found, expected, atol=1e-4)
    assert float((found - plain).abs().max()) > 0.1


def test_package_names_no_place_and_no_person(base: tuple[Path, str], trained: LoraResult) -> None:
    files = {path.name: path.read_bytes() for path in trained.folder.iterdir()}
    assert set(files) == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    }
    for data in files.values():
        assert str(base[0]).encode() not in data
        assert str(Path.home()).encode() not in data
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == config["revision"] == base[1]


def test_both_ways_of_the_card_work_and_agree(
    base: tuple[Path, str], trained: LoraResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (trained.folder / "README.md").read_text(encoding="utf-8")
    assert f"`{base[1]}`" in card
    assert f"→ {trained.bits_per_byte_after:.3f} bits per byte" in card
    (tmp_path / "base").symlink_to(base[0])
    (tmp_path / "adapter").symlink_to(trained.folder)
    ours, merging, stock = re.findall(
        r"^```python\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL
    )
    (tmp_path / "ours.py").write_text(ours)
    (tmp_path / "merging.py").write_text(ours + merging)
    (tmp_path / "stock.py").write_text(stock)
    monkeypatch.chdir(tmp_path)
    with_adapter = runpy.run_path("ours.py")["model"]
    runpy.run_path("merging.py")
    alone = runpy.run_path("stock.py")["model"]
    assert type(alone) is MambaForCausalLM
    ids = torch.tensor([encode_row(ByteTokeniser(), ROWS[1], 96)[0]])
    with torch.inference_mode():
        assert torch.allclose(alone(ids).logits, with_adapter(ids).logits, atol=1e-4)


def test_stock_peft_refuses_the_adapter_as_the_card_says(
    base: tuple[Path, str], trained: LoraResult
) -> None:
    with pytest.raises(ValueError, match="out_proj"):
        peft.PeftModel.from_pretrained(
            MambaForCausalLM.from_pretrained(base[0]), str(trained.folder)
        )


def test_accumulated_batches_make_one_step(base: tuple[Path, str], tmp_path: Path) -> None:
    """Against AdamW by torch alone, on the mean loss of both batches together."""
    settings = dataclasses.replace(SETTINGS, max_steps=1, warmup_fraction=0, accumulation=2)
    result = finetune(base[0], ROWS, tmp_path / "adapter", settings=settings)
    assert result is not None and result.tokens_per_second > 0
    model = load_lora_model(base[0], rank=4, alpha=8, seed=3)
    kept, _ = hold_out(ROWS, share=0.1, max_rows=200)
    encoded = [encode_row(ByteTokeniser(), row, 96) for row in kept]
    batches = RowBatches(encoded, max_tokens=512, seed=3)
    nats, count = torch.zeros(()), 0
    for ids, labels in (batches(0), batches(1)):
        log_probs = model.logits(torch.from_numpy(ids[:, :-1])).log_softmax(-1)
        learned = torch.from_numpy(labels[:, 1:])
        is_learned = learned != -100
        nats -= log_probs[is_learned].gather(1, learned[is_learned][:, None]).sum()
        count += int(is_learned.sum())
    (nats / count).backward()
    parameters = list(model.trained_parameters().values())
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    # One step of one: the cosine has come to its end, a tenth of the peak.
    torch.optim.AdamW(parameters, lr=0.001, betas=(0.9, 0.95), weight_decay=0).step()
    found = load_file(result.folder / "adapter_model.safetensors")
    for name, expected in model.lora_tensors().items():
        assert torch.allclose(found[name], expected, atol=1e-6)


# peft asks a stock model under a name that transformers has given up.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_lora_goes_where_it_is_wanted_and_stock_peft_may_load_it(
    base: tuple[Path, str], tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, targets=("x_proj", "in_proj"))
    result = finetune(base[0], ROWS, tmp_path / "adapter", settings=settings)
    assert result is not None
    adapter = read_adapter(result.folder, shape=SHAPE, rules=AdapterRules())
    assert {name.rpartition(".")[2] for name in adapter.pairs} == {"in_proj", "x_proj"}
    card = (result.folder / "README.md").read_text(encoding="utf-8")
    assert "on in_proj, x_proj |" in card and "peft alone refuses" not in card
    stock = MambaForCausalLM.from_pretrained(base[0])
    with_adapter = peft.PeftModel.from_pretrained(stock, str(result.folder)).eval()
    ids = torch.tensor([encode_row(ByteTokeniser(), ROWS[0], 96)[0]])
    with torch.no_grad():
        expected = merged(base[0], result.folder).logits(ids)
        assert torch.allclose(with_adapter(input_ids=ids).logits, expected, atol=1e-4)


def test_the_donor_s_flags_are_what_is_trained_with() -> None:
    flags = FinetuneConfig(targets=("x_proj",), learning_rate=0.01, batch_tokens=256, accumulate=4)
    settings = lora_settings(flags, has_text=False)
    assert (settings.targets, settings.schedule.accumulation) == (("x_proj",), 4)
    assert settings.schedule.learning_rate == 0.01 and settings.replay_share == 0
    assert settings.max_tokens == 256, "a row is cut to what is computed at once"
    assert lora_settings(flags, has_text=True).replay_share == flags.replay_share
    with pytest.raises(UsageError, match="dt_proj"):
        lora_settings(FinetuneConfig(targets=("dt_proj",)), has_text=False)


class KilledError(Exception):
    """Stands for the end of the process: nothing after it runs."""


def test_killed_and_resumed_gives_the_same_package(
    base: tuple[Path, str], trained: LoraResult, tmp_path: Path
) -> None:
    def die(report: StepReport) -> None:
        if report.step == 7:
            raise KilledError

    folder, state = tmp_path / "adapter", tmp_path / "state"
    with pytest.raises(KilledError):
        finetune(base[0], ROWS, folder, settings=SETTINGS, resume_folder=state, on_step=die)
    assert not folder.exists()
    steps: list[int] = []
    result = finetune(
        base[0],
        ROWS,
        folder,
        settings=SETTINGS,
        resume_folder=state,
        on_step=lambda report: steps.append(report.step),
    )
    # The kill came before step 7 was saved.
    assert steps == list(range(7, 21))
    assert result is not None and result.digest == trained.digest
    assert not list(state.iterdir())


def test_stopped_leaves_its_state_and_no_package(base: tuple[Path, str], tmp_path: Path) -> None:
    # The scoring of 15 held-out rows asks twice, then every step once.
    answers = iter([False] * 4 + [True] * 2)
    result = finetune(
        base[0],
        ROWS,
        tmp_path / "adapter",
        settings=SETTINGS,
        resume_folder=tmp_path / "state",
        should_stop=lambda: next(answers),
    )
    assert result is None
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert len(list((tmp_path / "state").iterdir())) == 1


def test_adapter_that_does_not_help_is_refused(base: tuple[Path, str], tmp_path: Path) -> None:
    # Far too large a step: what was learned from one batch is noise elsewhere.
    settings = dataclasses.replace(SETTINGS, learning_rate=0.9, max_steps=2)
    with pytest.raises(TrainingError, match="loss on 15 held-out rows went from") as refusal:
        finetune(base[0], ROWS, tmp_path / "adapter", settings=settings)
    assert refusal.value.way_out
    assert not (tmp_path / "adapter").exists()


def test_untrained_tensors_are_named(base: tuple[Path, str]) -> None:
    model = load_lora_model(base[0], rank=4, alpha=8, seed=0)
    ids = torch.arange(3, 40)[None].numpy()
    with pytest.raises(TrainingError, match=r"layers\.0\..*lora_[AB].* was not trained"):
        check_trained(model, (ids, ids))


def test_changed_base_is_refused(base: tuple[Path, str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "checkpoint"
    tensors = load_tensors(base[0])
    save_checkpoint(folder, shape=SHAPE, tensors=tensors, about={}, card="")
    shard = folder / "model-ends.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DigestError):
        finetune(folder, ROWS, tmp_path / "adapter", settings=SETTINGS)


def test_replay_keeps_running_text(base: tuple[Path, str], tmp_path: Path) -> None:
    text = "सब मनुष्य गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त हैं। "
    documents = [Document("a", "hi", text * 20)]
    ids = torch.tensor([ByteTokeniser().encode(text)])
    nats = {}
    for share in (0.0, 0.5):
        folder = tmp_path / str(share)
        settings = dataclasses.replace(SETTINGS, replay_share=share)
        assert finetune(base[0], ROWS, folder, settings=settings, documents=documents)
        with torch.no_grad():
            logits = merged(base[0], folder).logits(ids)[0, :-1]
        nats[share] = float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))
    assert nats[0.5] < nats[0.0]


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 4.5},
        {"scale": 0.0},
        {"rank": 0},
        {"held_out_share": 0.0},
        {"replay_share": 1.0},
        {"batch_tokens": 95},
        {"targets": ()},
        {"targets": ("in_proj", "dt_proj")},
        {"accumulation": 0},
        {"learning_rate": 1.0},
        {"warmup_fraction": -0.1},
    ],
)
def test_senseless_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(SETTINGS, **change)  # type: ignore[arg-type]
