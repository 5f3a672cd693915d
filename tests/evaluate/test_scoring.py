"""Nats of texts against one forward for each token; models with other tokenisers per native byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import GPT2Config, GPT2LMHeadModel, MambaForCausalLM, PreTrainedTokenizerFast

from seshu_swarm.data.prompts import TURN_END
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.errors import PackageError, UsageError
from seshu_swarm.evaluate.models.hugging import HuggingModel
from seshu_swarm.evaluate.models.opening import open_model
from seshu_swarm.evaluate.models.ours import OurModel
from seshu_swarm.evaluate.models.scoring import Cut, lossy_texts, text_nats, windows_of
from seshu_swarm.evaluate.models.vocabulary import Vocabulary
from tests.evaluate.nano import text, write_model

WORDS = "नमस्ते दुनिया, यह हिन्दी है। தமிழ் மொழி. English too.\n"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "nano")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of 24 positions with a tokeniser trained on one line."""
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    tokeniser = Tokenizer(BPE())
    tokeniser.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokeniser.decoder = ByteLevelDecoder()
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet)
    tokeniser.train_from_iterator([WORDS], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokeniser, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24}
    GPT2LMHeadModel(GPT2Config(vocab_size=300, **sizes)).save_pretrained(folder)
    return folder


def token_by_token(model: Any, ids: list[int], num_before: int, cut: Cut) -> float:
    """Each token from a forward of its own over what its window lets it see."""
    total = 0.0
    for place in range(num_before, len(ids)):
        start = num_before + (place - num_before) // cut.window_tokens * cut.window_tokens
        seen = ids[max(0, start - cut.context_tokens) : place]
        with torch.no_grad():
            found = model(torch.tensor([seen]))
        logits = getattr(found, "logits", found)[0, -1].double()
        total -= float(logits.log_softmax(-1)[ids[place]])
    return total


@pytest.mark.parametrize("prompt", ["", "सवाल: "])
def test_ours_equals_one_token_at_a_time(ours: Path, prompt: str) -> None:
    model, cut = OurModel.open(ours, "nano"), Cut(7, 5)
    ids = [*(model.encode(prompt) or [1]), *model.encode(WORDS)]
    expected = token_by_token(model.logits, ids, len(ids) - len(WORDS.encode()), cut)
    texts = [text("क", prompt=prompt), text(WORDS, prompt=prompt)]
    assert text_nats(model, texts, cut)[1] == pytest.approx(expected, rel=1e-5)


def test_another_model_with_its_own_tokeniser_and_a_short_window(gpt2: Path) -> None:
    model = open_model(str(gpt2))
    assert isinstance(model, HuggingModel) and model.max_tokens == 24
    ids = [0, *model.encode(WORDS)]
    assert 25 < len(ids) < len(WORDS.encode())  # more than a window, fewer than bytes
    stock = GPT2LMHeadModel.from_pretrained(gpt2).eval()
    expected = token_by_token(stock, ids, 1, Cut(13, 12))
    assert text_nats(model, [text(WORDS)])[0] == pytest.approx(expected, rel=1e-5)


def test_our_folder_scores_the_same_in_stock_transformers(ours: Path) -> None:
    stock = MambaForCausalLM.from_pretrained(ours).eval()
    texts = [text(WORDS), text("क")]
    mine = text_nats(OurModel.open(ours, "nano"), texts)
    found = text_nats(HuggingModel("s", stock, Vocabulary("s")), texts)
    np.testing.assert_allclose(found, mine, rtol=1e-5)


def test_a_talk_is_seen_as_in_training(ours: Path, gpt2: Path) -> None:
    """Behind each earlier answer stands the end; what is scored is the last answer."""
    earlier, question = "Q: क?\nA: ख", "Q: ग?\nA: "
    model, end = OurModel.open(ours, "nano"), ByteTokeniser.eos_id
    ids = [*model.encode(earlier), end, *model.encode(question), *model.encode(WORDS)]
    expected = token_by_token(model.logits, ids, len(ids) - len(WORDS.encode()), Cut())
    talk = text(WORDS, prompt=f"{earlier}{TURN_END}{question}")
    assert text_nats(model, [talk])[0] == pytest.approx(expected, rel=1e-5)
    other = open_model(str(gpt2))
    assert other.before(f"{earlier}{TURN_END}{question}") == [
        *other.before(earlier),
        other.end_id,
        *other.encode(question),
    ]


def test_every_token_is_scored_once_and_sees_what_came_before() -> None:
    ids = list(range(10, 33))
    found = list(windows_of("d", [1], ids, Cut(8, 4)))
    assert [i for w in found for i in w.ids[w.num_context_tokens :]] == ids
    assert [w.num_context_tokens for w in found] == [1, 4, 4]
    assert found[1].ids[:4] == (14, 15, 16, 17)


@pytest.mark.parametrize(
    ("limit", "fits"), [(None, (512, 256)), (767, (512, 256)), (766, (511, 256)), (24, (13, 12))]
)
def test_windows_fit_models_of_limited_length(limit: int | None, fits: tuple[int, int]) -> None:
    cut = Cut().within(limit)
    assert (cut.window_tokens, cut.context_tokens) == fits
    # Of a window all tokens but the last go into the model.
    assert limit is None or cut.window_tokens + cut.context_tokens - 1 <= limit


def test_a_tokeniser_that_loses_text_is_counted(gpt2: Path) -> None:
    model = open_model(str(gpt2))
    assert lossy_texts(model, [text(WORDS), text("a<end>b")]) == 1


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda path: "EleutherAI/pythia-70m", UsageError, "hf download EleutherAI/pythia-70m"),
        (lambda path: str(path / "none"), UsageError, "no model folder"),
        (lambda path: str(path), PackageError, "has no config.json"),
        (lambda path: _half_a_model(path), PackageError, "no causal language model"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, make: Any, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        open_model(make(tmp_path))


def _half_a_model(folder: Path) -> str:
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    return str(folder)
