"""A stage's passes against autograd through the whole model; what is kept, and until when."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor

from seshu_swarm.errors import ProtocolError, RefusalError
from seshu_swarm.mamba.kernels.choose import PLAIN, using
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.span_module import SpanModule
from seshu_swarm.peer.guest import Limits
from seshu_swarm.peer.training.casting import Casting
from seshu_swarm.peer.training.passes import Gradients, Output, StagePasses, bytes_of_graph
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import FIRST, MicrobatchId, Version
from seshu_swarm.spans import Span
from tests.spans import make_guest

torch.set_num_threads(1)

SHAPE = MambaShape(d_model=32, num_blocks=4)
SPANS = Span(0, 1), Span(1, 4)
ROWS, LENGTH = 2, 9
LATER = Version(1, 3)
GRAPH_BYTES = bytes_of_graph(SHAPE, torch.empty(ROWS, LENGTH, 32), 3)
INPUT_BYTES = ROWS * LENGTH * 32 * 4


@pytest.fixture
def computing() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


class Bench:
    """The whole model, and its stages as two peers would hold them, with equal weights."""

    def __init__(self, folder: Path, computing: ThreadPoolExecutor, *, dtype: Any = None) -> None:
        torch.manual_seed(5)
        self.whole = SpanModule(SHAPE, Span(0, 4)).to(dtype)
        self.stages = []
        for span in SPANS:
            module = SpanModule(SHAPE, span).to(dtype)
            module.blocks.load_state_dict(self.whole.part(span).blocks.state_dict())
            self.stages.append(module)
        self.folder, self.computing = folder, computing
        self.ledger = StageLedger("peer#00000000")
        self.input_BLM = torch.randn(ROWS, LENGTH, 32, dtype=dtype)
        self.gradient_BLM = torch.randn(ROWS, LENGTH, 32, dtype=dtype)

    def passes(self, stage: int, **settings: Any) -> StagePasses:
        module = self.stages[stage]
        guest = make_guest(self.folder, settings.pop("limits", None))
        return StagePasses(
            module,
            ordered(module),
            check=self.ledger.check_version,
            guest=guest,
            computing=self.computing,
            **settings,
        )

    def reference(self) -> tuple[Tensor, list[Tensor]]:
        """The output, and gradients by the input and all parameters, by plain autograd."""
        before_BLM = self.input_BLM.clone().requires_grad_()
        after_BLM, _ = self.whole(before_BLM)
        wanted = [before_BLM, *(p for span in SPANS for p in ordered(self.whole.part(span)))]
        return after_BLM, list(torch.autograd.grad(after_BLM, wanted, self.gradient_BLM))


def ordered(module: SpanModule) -> list[Tensor]:
    return [tensor for _, tensor in sorted(module.checkpoint_tensors().items())]


def id_of(number: int) -> MicrobatchId:
    return MicrobatchId("trainer#00000000", number)


async def there_and_back(
    bench: Bench, stages: list[StagePasses], *, is_sent_again: bool
) -> tuple[Tensor, list[Tensor]]:
    inputs, hidden_BLM = [], bench.input_BLM
    for passes in stages:
        inputs.append(hidden_BLM)
        hidden_BLM = (await passes.forward(id_of(0), FIRST, hidden_BLM)).values
    found: list[Tensor] = []
    gradient_BLM = bench.gradient_BLM
    for passes, input_BLM in zip(reversed(stages), reversed(inputs), strict=True):
        kept = passes.take(id_of(0), FIRST)
        assert kept is not None
        done = await passes.backward(FIRST, gradient_BLM, input_BLM if is_sent_again else kept)
        gradient_BLM, found = done.by_input, done.by_parameters + found
        assert passes.kept_bytes == 0
    return hidden_BLM, [gradient_BLM, *found]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("how", ["graph kept", "input kept", "input sent again"])
def test_two_stages_are_the_whole_model(
    how: str, dtype: torch.dtype, tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    bench = Bench(tmp_path, computing, dtype=dtype)
    most = 1 << 30 if how == "graph kept" else 4 * INPUT_BYTES
    stages = [bench.passes(stage, max_kept_bytes=most) for stage in (0, 1)]
    working = there_and_back(bench, stages, is_sent_again=how == "input sent again")
    output, found = asyncio.run(working)
    expected_output, expected = bench.reference()
    tolerance = 1e-5 if dtype is torch.float32 else 1e-12
    torch.testing.assert_close(output, expected_output, rtol=tolerance, atol=tolerance)
    assert len(found) == len(expected) > 30
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=10 * tolerance)


def test_products_in_bfloat16_differ_by_their_rounding_alone(
    tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    """Relative rounding of 2^-9 in a few products; what leaves and what is counted is float32."""
    bench = Bench(tmp_path, computing)
    stages = [bench.passes(stage, casting=Casting("bfloat16")) for stage in (0, 1)]
    output, found = asyncio.run(there_and_back(bench, stages, is_sent_again=False))
    expected_output, expected = bench.reference()
    for one, other in ((output, expected_output), *zip(found, expected, strict=True)):
        assert one.dtype is torch.float32
        error = float(((one - other).norm() / other.norm()).detach())
        assert 1e-5 < error < 3e-2


@pytest.mark.parametrize("compute_type", ["float32", "bfloat16"])
def test_kept_or_not_the_numbers_are_the_same(
    compute_type: str, tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    bench = Bench(tmp_path, computing)

    async def one(most: int, *, is_sent_again: bool) -> Gradients:
        passes = bench.passes(1, max_kept_bytes=most, casting=Casting(compute_type))
        await passes.forward(id_of(0), FIRST, bench.input_BLM)
        kept = passes.take(id_of(0), FIRST)
        assert kept is not None
        assert (kept.links[0].after is not None) == (most > INPUT_BYTES)
        source = bench.input_BLM if is_sent_again else kept
        return await passes.backward(FIRST, bench.gradient_BLM, source)

    found = [
        asyncio.run(one(most, is_sent_again=again))
        for most, again in ((1 << 30, False), (INPUT_BYTES, False), (INPUT_BYTES, True))
    ]
    for other in found[1:]:
        assert torch.equal(other.by_input, found[0].by_input)
        assert all(map(torch.equal, other.by_parameters, found[0].by_parameters))


def test_the_oldest_goes_first_and_no_more_is_kept_than_allowed(
    tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    bench = Bench(tmp_path, computing)
    most = GRAPH_BYTES + 2 * INPUT_BYTES
    passes = bench.passes(1, max_kept_bytes=most)

    async def many() -> None:
        sizes = []
        for number in range(4):
            await passes.forward(id_of(number), FIRST, bench.input_BLM)
            sizes.append(passes.kept_bytes)
        # One graph, two inputs; then the graph makes room.
        assert sizes == [GRAPH_BYTES, most - INPUT_BYTES, most, 3 * INPUT_BYTES]
        assert passes.take(id_of(0), FIRST) is None
        assert passes.take(id_of(1), FIRST) is not None
        assert passes.take(id_of(1), FIRST) is None

    asyncio.run(many())


def test_an_estimate_of_a_graph_is_not_less_than_what_it_holds(
    tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    bench = Bench(tmp_path, computing)
    module = bench.stages[1]
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    for kernels in ("plain", "chosen"):
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            input_BLM = torch.randn(4, 64, 32, requires_grad=True)
            if kernels == "plain":
                with using(PLAIN):
                    output_BLM, _ = module(input_BLM)
            else:
                output_BLM, _ = module(input_BLM)
        held = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
        assert 0 < held <= bytes_of_graph(SHAPE, input_BLM, 3)
        del output_BLM


def test_without_memory_only_the_input_is_kept(
    tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    bench = Bench(tmp_path, computing)
    passes = bench.passes(1, limits=Limits(max_memory_bytes=1))
    asyncio.run(passes.forward(id_of(0), FIRST, bench.input_BLM))
    assert passes.kept_bytes == INPUT_BYTES


def test_new_weights_end_what_was_kept(tmp_path: Path, computing: ThreadPoolExecutor) -> None:
    bench = Bench(tmp_path, computing)
    passes = bench.passes(0)

    async def moves_on() -> None:
        await passes.forward(id_of(0), FIRST, bench.input_BLM)
        kept = passes.take(id_of(0), FIRST)
        await passes.forward(id_of(0), FIRST, bench.input_BLM)
        bench.ledger.downloaded(LATER)
        assert passes.take(id_of(0), LATER) is None
        assert passes.kept_bytes == 0
        assert kept is not None
        with pytest.raises(RefusalError, match="weights"):
            await passes.backward(FIRST, bench.gradient_BLM, kept)
        with pytest.raises(RefusalError, match="weights"):
            await passes.forward(id_of(0), FIRST, bench.input_BLM)

    asyncio.run(moves_on())


def test_a_pass_under_way_ends_when_the_weights_move_on(
    tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    bench = Bench(tmp_path, computing)
    passes = bench.passes(1)

    async def moves_on() -> None:
        working = asyncio.create_task(passes.forward(id_of(0), FIRST, bench.input_BLM))
        await asyncio.sleep(0)
        bench.ledger.downloaded(LATER)
        with pytest.raises(RefusalError, match="weights"):
            await working
        assert passes.kept_bytes == 0

    asyncio.run(moves_on())


def test_work_of_others_comes_between_the_blocks(
    tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    bench = Bench(tmp_path, computing)
    passes = bench.passes(1)
    order: list[str] = []
    for index, block in enumerate(bench.stages[1].blocks):
        block.register_forward_hook(lambda *_, index=index: order.append(f"block {index}"))

    async def together() -> None:
        loop = asyncio.get_running_loop()
        working = asyncio.create_task(passes.forward(id_of(0), FIRST, bench.input_BLM))
        await asyncio.sleep(0)  # the first block is handed in
        await loop.run_in_executor(computing, order.append, "a step")
        await working

    asyncio.run(together())
    assert order == ["block 0", "a step", "block 1", "block 2"]


def test_of_two_passes_at_once_one_waits_for_the_other(
    tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    bench = Bench(tmp_path, computing)

    held_seconds, is_free = 0.1, Event()

    async def both() -> list[Output]:
        passes = bench.passes(0)
        computing.submit(is_free.wait)
        asked = (passes.forward(id_of(number), FIRST, bench.input_BLM) for number in (0, 1))
        done = asyncio.gather(*asked)
        # So long nothing is computed: the first pass has the turn, the second one waits for it.
        await asyncio.sleep(held_seconds)
        is_free.set()
        return list(await done)

    first, second = asyncio.run(both())
    assert first.wait_seconds < held_seconds / 2 < second.wait_seconds
    assert first.seconds > held_seconds / 2


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(
    number: float, tmp_path: Path, computing: ThreadPoolExecutor
) -> None:
    bench = Bench(tmp_path, computing)
    passes = bench.passes(1)

    async def overflow() -> None:
        bad_BLM = torch.full_like(bench.input_BLM, number)
        with pytest.raises(ProtocolError, match="overflow"):
            await passes.backward(FIRST, bad_BLM, bench.input_BLM)
        mixer: Any = bench.stages[1].blocks[2].mixer
        mixer.D.data[:] = number  # as after a step that went wrong
        with pytest.raises(ProtocolError, match="overflow"):
            await passes.forward(id_of(0), FIRST, bench.input_BLM)
        assert passes.kept_bytes == 0

    asyncio.run(overflow())
