"""generate() and the cache: stock transformers and the uncached model are the references."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer, MambaConfig, MambaForCausalLM
from transformers.generation.streamers import BaseStreamer

from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.cache import RecurrentCache
from seshu_swarm.mamba.kernels.choose import PLAIN, using
from seshu_swarm.mamba.model import SeshuMambaConfig, SeshuMambaForCausalLM
from seshu_swarm.mamba.padding import Padding
from seshu_swarm.mamba.shape import MambaShape

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=32, num_blocks=2)
NUM_NEW = 12


def loud_model() -> SeshuMambaForCausalLM:
    """Large embeddings: what it says depends on the whole prompt, not on the last token alone."""
    torch.manual_seed(0)
    model = SeshuMambaForCausalLM(SeshuMambaConfig.from_shape(SHAPE))
    with torch.no_grad():
        model.backbone.embeddings.weight.mul_(20)
    return model


MODEL = loud_model().eval()
STOCK = MambaForCausalLM(MambaConfig.from_dict(SHAPE.to_config())).eval()
STOCK.load_state_dict(MODEL.state_dict())


def some_ids(batch: int = 2, length: int = 9) -> torch.Tensor:
    torch.manual_seed(length)
    return torch.randint(3, 259, (batch, length))


def generated(model: Any, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    """Exactly NUM_NEW tokens more, from one seed."""
    torch.manual_seed(3)
    defaults = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": NUM_NEW,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    found: torch.Tensor = model.generate(ids, **(defaults | options))
    return found


WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 0.8, "top_k": 9, "top_p": 0.9},
    "several sequences": {"do_sample": True, "num_return_sequences": 3},
    "repetition penalty": {"repetition_penalty": 1.5, "no_repeat_ngram_size": 3},
    "beams": {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5},
    "sampled beams": {"num_beams": 3, "do_sample": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_generate_equals_stock_transformers_and_the_uncached_model(way: str) -> None:
    ids = some_ids()
    found = generated(MODEL, ids, **WAYS[way])
    assert found.shape[1] == ids.shape[1] + NUM_NEW
    assert torch.equal(found, generated(STOCK, ids, **WAYS[way]))
    assert torch.equal(found, generated(MODEL, ids, use_cache=False, **WAYS[way]))


def test_a_new_token_costs_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, forward = [], MODEL.backbone.layers[0].forward

    def counted(hidden: torch.Tensor, *others: Any) -> Any:
        lengths.append(hidden.shape[1])
        return forward(hidden, *others)

    monkeypatch.setattr(MODEL.backbone.layers[0], "forward", counted)
    with using(PLAIN):  # the native step takes a token through all blocks without calling them
        generated(MODEL, some_ids(length=9))
    assert lengths == [9] + [1] * (NUM_NEW - 1)


class Listener(BaseStreamer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.heard.extend(value.flatten().tolist())

    def end(self) -> None:
        self.ended = True


def test_a_streamer_hears_the_tokens_in_order() -> None:
    listener, ids = Listener(), some_ids(1)
    found = generated(MODEL, ids, streamer=listener)
    assert listener.ended
    assert listener.heard == found[0].tolist()


def test_stop_strings_and_the_end_token_stop() -> None:
    ids = some_ids(1)
    free = generated(MODEL, ids, max_new_tokens=40)[0, ids.shape[1] :].tolist()
    # ByT5's tokeniser is ours: byte + 3.
    token = next(t for t in free[3:] if 32 <= t - 3 < 127)
    expected = free[: free.index(token) + 1]
    stop = {"stop_strings": chr(token - 3), "tokenizer": ByT5Tokenizer()}
    for options in (stop, {"eos_token_id": token}):
        found = generated(MODEL, ids, max_new_tokens=40, **options)
        assert found[0, ids.shape[1] :].tolist() == expected


def test_embeddings_as_a_prompt() -> None:
    ids = some_ids()
    embeddings = MODEL.get_input_embeddings()(ids)
    found = MODEL.generate(
        inputs_embeds=embeddings,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NUM_NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert torch.equal(found, generated(MODEL, ids)[:, ids.shape[1] :])


def padded_left(ids: torch.Tensor, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The last lengths[b] tokens of each row, after padding with a token that would do harm."""
    before = torch.tensor([ids.shape[1] - length for length in lengths])
    mask = torch.arange(ids.shape[1]) >= before[:, None]
    return ids.where(mask, 200), mask.long()


@pytest.mark.parametrize("way", ["greedy", "beams"])
def test_a_batch_padded_on_the_left_says_what_each_row_would_alone(way: str) -> None:
    ids, lengths = some_ids(4, 9), [9, 1, 4, 7]
    padded, mask = padded_left(ids, lengths)
    options = WAYS[way] | {"num_return_sequences": 1}
    found = generated(MODEL, padded, attention_mask=mask, **options)
    uncached = generated(MODEL, padded, attention_mask=mask, use_cache=False, **options)
    assert torch.equal(found, uncached)
    for row, length in enumerate(lengths):
        alone = generated(MODEL, ids[row : row + 1, -length:], **options)
        assert found[row, 9:].tolist() == alone[0, length:].tolist()


def test_prompts_padded_on_the_right_are_refused() -> None:
    ids = some_ids()
    with pytest.raises(UsageError, match=r"padded on the right.*left"):
        generated(MODEL, ids, attention_mask=padded_left(ids, [9, 4])[1].flip(1))


def test_generation_goes_on_from_a_cache() -> None:
    ids = some_ids(2, 10)
    expected = generated(MODEL, ids)
    cache = MODEL(ids[:, :6], use_cache=True).cache_params
    kept = copy.copy(cache)
    with torch.no_grad():
        deep = copy.deepcopy(MODEL(ids[:, :6], use_cache=True).cache_params)
    for cache_params in (cache, kept, deep):
        found = generated(MODEL, ids[:, 6:], cache_params=cache_params)
        assert torch.equal(found, expected[:, 6:])
    prefix = MODEL(ids[:1, :6], use_cache=True).cache_params
    prefix.batch_repeat_interleave(3)
    several = generated(MODEL, ids[:1, 6:].expand(3, -1), cache_params=prefix)
    assert torch.equal(several, expected[:1, 6:].expand(3, -1))


@settings(max_examples=25)
@given(st.data())
def test_chunks_of_any_sizes_equal_the_whole(data: st.DataObject) -> None:
    ids = some_ids(2, 24)
    cuts = data.draw(st.lists(st.integers(1, 23), unique=True, max_size=4).map(sorted))
    with torch.no_grad():
        expected = MODEL(ids).logits
        cache, found = None, []
        for start, end in zip([0, *cuts], [*cuts, 24], strict=True):
            output = MODEL(input_ids=ids[:, start:end], cache_params=cache, use_cache=True)
            assert cache is None or output.cache_params is cache
            cache = output.cache_params
            found.append(output.logits)
    scale = float(expected.abs().max())
    assert float((torch.cat(found, 1) - expected).abs().max()) <= 1e-5 * scale


def test_the_cache_has_the_same_size_after_any_length() -> None:
    sizes = {MODEL(some_ids(2, n), use_cache=True).cache_params.num_bytes for n in (1, 2, 40)}
    rows = SHAPE.num_blocks * 2 * SHAPE.d_inner
    assert sizes == {rows * (SHAPE.d_state + SHAPE.d_conv - 1) * 4}


@torch.no_grad()
def test_rows_padded_on_either_side_equal_the_rows_alone_from_any_state() -> None:
    """A second turn of unequal lengths, padded on the left and on the right, after a first one."""
    first, second, lengths = some_ids(4, 7), some_ids(4, 9), [9, 1, 0, 6]
    states = []
    for side in ("left", "right"):
        padded, mask = padded_left(second, lengths)
        if side == "right":
            padded, mask = padded.flip(1), mask.flip(1)
        cache = MODEL(first, use_cache=True).cache_params
        # As generate() gives it: the mask tells of the first turn too.
        whole_mask = torch.cat((torch.ones_like(first), mask), 1)
        logits = MODEL(padded, attention_mask=whole_mask, cache_params=cache, use_cache=True).logits
        for row, length in enumerate(lengths):
            text = padded[row, mask[row] == 1]
            alone = MODEL(torch.cat((first[row], text))[None]).logits[0, 7:]
            assert torch.allclose(logits[row, mask[row] == 1], alone, atol=1e-4)
            assert alone.shape[0] == length
        states.append(cache[1][1])
    unmoved = MODEL(first, use_cache=True).cache_params[1][1][2]
    assert torch.equal(states[0][2], unmoved)
    assert torch.equal(states[1][2], unmoved)


def test_padding_reaches_neither_loss_nor_gradient() -> None:
    ids, lengths = some_ids(2, 9), [9, 5]
    padded, mask = padded_left(ids, lengths)
    gradients = []
    for side in ("left", "right", "alone"):
        MODEL.zero_grad()
        if side == "alone":
            # The mean over both rows' predictions, from each row by itself.
            losses = [
                MODEL(ids[r : r + 1, -n:], labels=ids[r : r + 1, -n:]).loss * (n - 1)
                for r, n in enumerate(lengths)
            ]
            loss = torch.stack(losses).sum() / sum(n - 1 for n in lengths)
        else:
            rows, its_mask = padded, mask
            if side == "right":
                rows = torch.stack([row.roll(n) for row, n in zip(padded, lengths, strict=True)])
                its_mask = mask.flip(1)
            loss = MODEL(rows, attention_mask=its_mask, labels=rows).loss
        loss.backward()
        gradients.append({n: p.grad.clone() for n, p in MODEL.named_parameters()})
    MODEL.zero_grad()
    for name, expected in gradients[2].items():
        for found in gradients[:2]:
            assert torch.allclose(found[name], expected, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]]), "row 1 has a hole"),
        (torch.ones(2, 3), "attention_mask"),
        (torch.ones(3, 4), "attention_mask"),
        (torch.ones(2, 1, 4, 4), "attention_mask"),
    ],
)
def test_other_masks_are_refused_by_name(mask: torch.Tensor, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Padding.of_mask(mask, batch=2, length=4)


def test_a_cache_that_does_not_fit_is_refused_and_stays() -> None:
    cache = MODEL(some_ids(2), use_cache=True).cache_params
    before = cache[0][1]
    with pytest.raises(UsageError, match=r"2 rows.*batch_repeat_interleave"):
        MODEL(some_ids(3), cache_params=cache)
    with pytest.raises(UsageError, match="cache of 5 blocks; the model has 2"):
        MODEL(some_ids(2), cache_params=RecurrentCache(5))
    assert cache[0][1] is before


def test_a_cache_is_reordered_selected_from_and_reset() -> None:
    ids = some_ids(3)
    cache = MODEL(ids, use_cache=True).cache_params
    before = cache[1]
    cache.reorder_cache(torch.tensor([2, 0, 0]))
    assert all(torch.equal(now, old[[2, 0, 0]]) for now, old in zip(cache[1], before, strict=True))
    cache.batch_select_indices(torch.tensor([1]))
    assert torch.equal(cache[1][1], before[1][:1])
    cache.reset()
    assert cache.batch is None
    assert torch.equal(MODEL(ids, cache_params=cache).logits, MODEL(ids).logits)
