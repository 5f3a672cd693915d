"""What is measured, one item of progress at a time; each item writes into the book.

Engines that are compared take turns inside one item. Memory, the fallback's one step and the growth
with length are measured in fresh processes, one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

from seshu_swarm.bench.engine import calls
from seshu_swarm.bench.engine.book import Book, GrowthRow, Kind, Row
from seshu_swarm.bench.engine.child import Task, measure_in_child
from seshu_swarm.bench.engine.engines import (
    SDPA,
    Engine,
    engine_names,
    make_engine,
    make_separate,
    our_names,
    seeded_model,
)
from seshu_swarm.bench.engine.measuring import Call, best_of
from seshu_swarm.bench.engine.rates import measure_rates
from seshu_swarm.bench.engine.sizes import FALLBACK, MAMBAPY, Sizes, Workload

# What people may expect on two cores, for the progress bar alone.
START_SECONDS, FALLBACK_SECONDS, LONG_SECONDS = 4.0, 55.0, 40.0
LONG_TOKENS = 16_384


@dataclass(frozen=True)
class Item:
    """`expected_seconds` is its share of the progress bar."""

    name: str
    expected_seconds: float
    act: Callable[[], None]


def all_items(sizes: Sizes, book: Book, *, threads: int) -> list[Item]:
    """Rates are measured before, between and after, and the best are kept."""
    rates = Item("limits of the machine", sizes.seconds / 2, partial(_rates, sizes, book))
    training = [_item("training", work, sizes, book, _train) for work in sizes.training]
    prefill = [_item("prefill", work, sizes, book, _prefill) for work in sizes.prefill]
    decode = [_item("decode", work, sizes, book, _decode) for work in sizes.decode]
    memory = _memory_items(sizes, book, threads)
    growth = _growth_items(sizes, book, threads)
    return [rates, *training, rates, *prefill, *decode, rates, *memory, *growth]


def _rates(sizes: Sizes, book: Book) -> None:
    book.add_rates(
        measure_rates(
            gemm_size=sizes.gemm_size, read_bytes=sizes.read_bytes, seconds=sizes.seconds / 6
        )
    )


def _item(
    name: str,
    work: Workload,
    sizes: Sizes,
    book: Book,
    act: Callable[[Workload, Sizes, Book], None],
) -> Item:
    expected = 4 * sizes.seconds + START_SECONDS
    return Item(f"{name} {work.label}", expected, partial(act, work, sizes, book))


def _train(work: Workload, sizes: Sizes, book: Book) -> None:
    ids_BL = calls.random_ids(work)
    names = [name for name in engine_names(sizes.stock) if name != FALLBACK]
    engines = make_separate(names, seeded_model(work.shape))
    steps = {engine.name: partial(calls.training_step(engine), ids_BL) for engine in engines}
    _write(Kind.TRAINING, work, sizes, book, steps)


def _prefill(work: Workload, sizes: Sizes, book: Book) -> None:
    ids_BL = calls.random_ids(work)
    engines = _sharing(work, engine_names(sizes.stock))
    prefills = {engine.name: calls.prefill(engine, ids_BL) for engine in engines}
    _write(Kind.PREFILL, work, sizes, book, prefills)


def _decode(work: Workload, sizes: Sizes, book: Book) -> None:
    """Without mambapy: a single token does not reach its scan."""
    ids_BL = calls.random_ids(work)
    engines = _sharing(work, [name for name in engine_names(sizes.stock) if name != MAMBAPY])
    steps = {engine.name: calls.decode(engine, ids_BL)[0] for engine in engines}
    _write(Kind.DECODE, work, sizes, book, steps)


def _sharing(work: Workload, names: list[str]) -> list[Engine]:
    """Engines on one set of weights in memory: inference changes none."""
    model = seeded_model(work.shape)
    return [make_engine(name, model) for name in names]


def _write(
    kind: Kind, work: Workload, sizes: Sizes, book: Book, timed_calls: Mapping[str, Call]
) -> None:
    for name, timing in best_of(timed_calls, seconds=sizes.seconds).items():
        row = Row(kind=kind, work=work, engine=name, seconds=timing.seconds, repeats=timing.repeats)
        book.rows.append(row)


def _memory_items(sizes: Sizes, book: Book, threads: int) -> list[Item]:
    work, items = sizes.training[0], []
    for name in engine_names(sizes.stock):
        expected = FALLBACK_SECONDS if name == FALLBACK else START_SECONDS
        act = partial(_memory, name, work, book, threads)
        items.append(Item(f"memory of {name}", expected, act))
    return items


def _memory(name: str, work: Workload, book: Book, threads: int) -> None:
    """One step. The fallback's gives its time too; the others have had their turns."""
    measured = measure_in_child(_task(name, work, threads))
    book.peak_bytes[work, name] = measured.peak_bytes
    if name == FALLBACK:
        seconds, repeats = measured.train_seconds, measured.train_repeats
        row = Row(kind=Kind.TRAINING, work=work, engine=name, seconds=seconds, repeats=repeats)
        book.rows.append(row)


def _growth_items(sizes: Sizes, book: Book, threads: int) -> list[Item]:
    items = []
    for length in sizes.growth_lengths_tokens:
        for name in (our_names()[0], SDPA):
            expected = LONG_SECONDS if length >= LONG_TOKENS else 2 * START_SECONDS
            act = partial(_growth, name, length, sizes, book, threads)
            items.append(Item(f"{name} at {length} tokens", expected, act))
    return items


def _growth(name: str, length: int, sizes: Sizes, book: Book, threads: int) -> None:
    work = Workload(shape=sizes.growth_shape, length_tokens=length)
    task = _task(name, work, threads, seconds=sizes.seconds / 2)
    book.growth.append(
        GrowthRow(engine=name, length_tokens=length, measured=measure_in_child(task))
    )


def _task(name: str, work: Workload, threads: int, seconds: float = 0.0) -> Task:
    return Task(
        engine=name,
        shape=asdict(work.shape),
        batch=work.batch,
        length_tokens=work.length_tokens,
        threads=threads,
        seconds=seconds,
        with_inference=seconds > 0,
    )
