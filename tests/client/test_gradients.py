"""Forward and backward through the swarm's frozen blocks: autograd in one process is the reference."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from seshu_swarm import checkpoints
from seshu_swarm.client.chain.routing import Offer
from seshu_swarm.client.pretrained.model import RemoteModelForCausalLM
from seshu_swarm.client.remote.gradients import RemoteBlocks, grouped
from seshu_swarm.errors import PeerLostError, UsageError
from seshu_swarm.exchange.gradients import (
    GRADIENTS,
    MAX_PASS_TOKENS,
    MAX_PASSES_OF_ONE,
    AskPass,
    PassAdmitted,
    Propagate,
    Propagated,
)
from seshu_swarm.mamba.model import SeshuMambaForCausalLM
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.guest import Limits
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Refusal
from seshu_swarm.streams.wire import pack_tensor
from tests.conftest import TinyCheckpoint
from tests.online import Online
from tests.spans import Host, make_guest

torch.set_num_threads(1)

LENGTHS = (7, 3, 5)
SPANS = (Span(0, 4), Span(0, 2), Span(2, 4), Span(1, 3), Span(0, 3), Span(3, 4))


@pytest.fixture(scope="module")
def online(tiny: TinyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Online]:
    swarm = Online(tmp_path_factory.mktemp("online"), tiny)
    for span in SPANS:
        swarm.host(str(span), span)
    yield swarm
    swarm.close()


@pytest.fixture(scope="module")
def client(online: Online) -> Swarm:
    return online.join("client")


@pytest.fixture(scope="module")
def whole(tiny: TinyCheckpoint) -> WholeModel:
    return checkpoints.load_whole(tiny.folder).eval().requires_grad_(False)


def blocks_over(
    client: Swarm, tiny: TinyCheckpoint, hosts: list[Host], **options: Any
) -> RemoteBlocks:
    """The first host is the cheapest, and so on."""

    async def find() -> list[Offer]:
        return [Offer(h.swarm.peer_id, h.span, 0.001 * 9**i, 0) for i, h in enumerate(hosts)]

    return RemoteBlocks(
        client, revision=tiny.revision, num_blocks=tiny.num_blocks, find=find, **options
    )


def numbers(seed: int, rows: int = len(LENGTHS), length: int = max(LENGTHS)) -> torch.Tensor:
    return torch.randn(rows, length, 32, generator=torch.Generator().manual_seed(seed))


def here(
    whole: WholeModel, hidden: torch.Tensor, gradient: torch.Tensor, lengths: tuple[int, ...]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Output and gradient of every row by itself, without padding."""
    outputs, gradients = [], []
    for row, length in enumerate(lengths):
        before = hidden[row : row + 1, :length].clone().requires_grad_()
        after, _ = whole.span(before)
        after.backward(gradient[row : row + 1, :length])
        assert before.grad is not None
        outputs.append(after.detach()[0])
        gradients.append(before.grad[0])
    return outputs, gradients


def check(
    whole: WholeModel,
    found: tuple[torch.Tensor, torch.Tensor],
    lengths: tuple[int, ...] = LENGTHS,
) -> None:
    """Of numbers(0) with the gradient numbers(1): to 1e-5, and 0 after every row's end."""
    expected = here(whole, numbers(0), numbers(1), lengths)
    for values, rows in zip(found, expected, strict=True):
        for value, row, length in zip(values, rows, lengths, strict=True):
            assert torch.allclose(value[:length], row, atol=1e-5)
            assert not value[length:].any()


async def both_ways(
    blocks: RemoteBlocks, between: Callable[[], object] = lambda: None
) -> tuple[torch.Tensor, torch.Tensor]:
    output, trace = await blocks.forward(numbers(0), LENGTHS)
    between()
    return output, await blocks.backward(trace, numbers(1))


@pytest.mark.parametrize(
    "names",
    [["0:4"], ["0:2", "2:4"], ["0:2", "1:3", "3:4"], ["0:3", "2:4"]],
    ids=",".join,
)
def test_any_chain_equals_autograd_in_one_process(
    online: Online, tiny: TinyCheckpoint, client: Swarm, whole: WholeModel, names: list[str]
) -> None:
    blocks = blocks_over(client, tiny, [online.hosts[name] for name in names])
    check(whole, online.run(both_ways(blocks)))
    assert blocks.recoveries == []


def test_a_peer_that_dies_between_forward_and_backward_is_replaced_by_smaller_spans(
    online: Online, tiny: TinyCheckpoint, client: Swarm, whole: WholeModel
) -> None:
    doomed = online.host("doomed", Span(0, 4))
    others = [online.hosts[name] for name in ("0:2", "1:3", "3:4")]
    blocks = blocks_over(client, tiny, [doomed, *others])

    async def passes() -> tuple[torch.Tensor, torch.Tensor]:
        return await both_ways(blocks, lambda: online.kill("doomed"))

    check(whole, online.run(passes()))
    assert len(blocks.recoveries) == 1 and "blocks 0:4" in blocks.recoveries[0]


async def refuses(channel: Channel) -> None:
    await channel.receive(AskPass, seconds=5, what="a pass")
    raise refusal(Refusal.PAUSED, "for a test")


async def admits(channel: Channel) -> None:
    await channel.receive(AskPass, seconds=5, what="a pass")
    await channel.send(PassAdmitted())
    await channel.receive(Propagate, seconds=5, what="the tensors")


async def hangs_up(channel: Channel) -> None:
    await admits(channel)
    channel.close()


async def says_nothing(channel: Channel) -> None:
    await admits(channel)
    await channel.receive(Propagate, seconds=5, what="more")


def lies(shape: tuple[int, ...], number: float) -> Callable[[Channel], Any]:
    async def lie(channel: Channel) -> None:
        await admits(channel)
        values = pack_tensor(torch.full(shape, number))
        await channel.send(Propagated(values=values, compute_seconds=0.0))

    return lie


BAD = {
    "refuses": refuses,
    "hangs up": hangs_up,
    "says nothing": says_nothing,
    "wrong shape": lies((3, 7, 16), 0.0),
    "no numbers": lies((3, 7, 32), math.nan),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_peer_is_passed_over(
    online: Online, tiny: TinyCheckpoint, client: Swarm, whole: WholeModel, how: str
) -> None:
    bad = Host(online.join(f"bad {how}"), online.hosts["0:4"].service, Span(0, 4))
    online.run(bad.swarm.serve(GRADIENTS, BAD[how]))
    blocks = blocks_over(client, tiny, [bad, online.hosts["0:4"]], call_seconds=1.0)
    check(whole, online.run(both_ways(blocks)))
    assert len(blocks.recoveries) == 1  # and not asked again on the way back


def test_a_peer_that_is_busy_for_a_moment_is_asked_again(
    online: Online, tiny: TinyCheckpoint, client: Swarm, whole: WholeModel
) -> None:
    service, blocks = online.gradients["0:4"], blocks_over(client, tiny, [online.hosts["0:4"]])
    service._passes[client.peer_id] += MAX_PASSES_OF_ONE

    async def free_later() -> None:
        while not blocks.recoveries:
            await asyncio.sleep(0.01)
        del service._passes[client.peer_id]

    async def passes() -> tuple[torch.Tensor, torch.Tensor]:
        found, _ = await asyncio.gather(both_ways(blocks), free_later())
        return found

    check(whole, online.run(passes()))
    assert "RATE_LIMITED" in blocks.recoveries[0]


def test_when_nobody_is_left_the_block_and_the_last_failure_are_named(
    online: Online, tiny: TinyCheckpoint, client: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seshu_swarm.client.remote.gradients.RETRY_SECONDS", 0.01)
    poor = make_guest(online.folder / "poor", Limits(max_memory_bytes=1))
    blocks = blocks_over(client, tiny, [online.host("poor", Span(0, 4), guest=poor)])
    with pytest.raises(PeerLostError, match=r"no reachable peer hosts block 0.*MEMORY_FULL"):
        online.run(blocks.forward(numbers(0), LENGTHS))


def test_many_rows_go_in_several_passes(
    online: Online,
    tiny: TinyCheckpoint,
    client: Swarm,
    whole: WholeModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seshu_swarm.client.remote.gradients.MAX_PASS_TOKENS", 10)
    before = online.gradients["0:4"].num_answered
    check(whole, online.run(both_ways(blocks_over(client, tiny, [online.hosts["0:4"]]))))
    assert online.gradients["0:4"].num_answered - before == 4  # rows 0 and 2, 1; both ways


def test_rows_of_like_length_share_a_pass() -> None:
    groups = grouped([4, 2_000, 3, 1_900], d_model=32)
    assert [(group.places, group.lengths) for group in groups] == [
        ([1, 3], [2_000, 1_900]),
        ([0, 2], [4, 3]),
    ]
    # A wide model's row must fit into a frame, twice.
    assert len(grouped([600, 600], d_model=4_096)) == 2


@pytest.mark.parametrize("length", [0, MAX_PASS_TOKENS + 1])
def test_a_row_that_no_peer_would_take_is_refused_here(length: int) -> None:
    with pytest.raises(UsageError, match=f"row 1 has {length} tokens"):
        grouped([3, length], d_model=32)


@pytest.fixture(scope="module")
def local(tiny: TinyCheckpoint) -> SeshuMambaForCausalLM:
    model: SeshuMambaForCausalLM = SeshuMambaForCausalLM.from_pretrained(tiny.folder)
    return model


@pytest.fixture(scope="module")
def model(
    online: Online, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RemoteModelForCausalLM]:
    with RemoteModelForCausalLM.from_pretrained(
        online.link, state_dir=str(tmp_path_factory.mktemp("me")), host="127.0.0.1"
    ) as model:
        yield model


PADDED = {
    "none": [[1] * 6, [1] * 6],
    "left": [[1] * 6, [0] * 4 + [1] * 2],
    "right": [[1] * 3 + [0] * 3, [1] * 6],
}


@pytest.mark.parametrize("side", PADDED)
def test_loss_and_gradient_of_embeddings_equal_the_model_in_one_process(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM, side: str
) -> None:
    ids = torch.randint(3, 259, (2, 6), generator=torch.Generator().manual_seed(4))
    mask = torch.tensor(PADDED[side])
    found = []
    for one in (model, local):
        embeddings = local.get_input_embeddings()(ids).detach().requires_grad_()
        output = one(inputs_embeds=embeddings, attention_mask=mask, labels=ids)
        output.loss.backward()
        found.append((output.loss.detach(), output.logits[mask != 0], embeddings.grad))
    for remote, expected in zip(*found, strict=True):
        assert torch.allclose(remote, expected, atol=1e-5)
    assert found[1][2].abs().max() > 1e-3  # there is a gradient at all


def test_a_trained_prompt_equals_one_trained_in_one_process(
    model: RemoteModelForCausalLM, local: SeshuMambaForCausalLM
) -> None:
    """Prompt tuning: the prompt and the ends' own weights learn, the blocks stay."""
    ids = torch.randint(3, 259, (2, 5), generator=torch.Generator().manual_seed(5))
    losses = [prompt_tuning(one, ids) for one in (model, local)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][-1] < losses[0][0] - 0.1


def prompt_tuning(model: Any, ids: torch.Tensor) -> list[float]:
    prompt = torch.zeros(1, 4, 32, requires_grad=True)
    optimiser = torch.optim.SGD([prompt], lr=3.0)
    losses = []
    for _ in range(5):
        embeddings = torch.cat([prompt.expand(2, 4, 32), model.get_input_embeddings()(ids)], dim=1)
        labels = torch.cat([torch.full((2, 4), -100), ids], dim=1)
        loss = model(inputs_embeds=embeddings, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    model.zero_grad()
    return losses


def test_without_anything_to_train_no_graph_is_kept(model: RemoteModelForCausalLM) -> None:
    with torch.no_grad():
        assert not model(torch.tensor([[3, 4, 5]])).logits.requires_grad
    assert model(torch.tensor([[3, 4, 5]])).logits.requires_grad  # the ends are trainable


def test_labels_of_another_shape_are_refused(model: RemoteModelForCausalLM) -> None:
    with pytest.raises(UsageError, match="a label for each position"):
        model(torch.tensor([[3, 4, 5]]), labels=torch.tensor([[3, 4]]))
