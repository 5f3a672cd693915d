"""`bench sessions`: eight sessions at once against one, a peer at rest, and how soon it is ready.

Two spans. The model with near-zero computing shows what the swarm itself can carry; the one of
768 × 12 what batching gives where computing counts.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.memory import Held, held_by
from seshu_swarm.bench.swarm.model import prompt
from seshu_swarm.bench.swarm.playing import Stage, play
from seshu_swarm.bench.swarm.summary import Times, quantile
from seshu_swarm.bench.swarm.talk import Talk, Token
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.bench.swarm.village import Village

MANY = 8
PROMPT_TOKENS = 32
WARM_UP_TOKENS = 20
READY_STARTS = 3
MB = 1e6


@dataclass(frozen=True)
class Size:
    """A model in two spans. `share` of the asked tokens is measured: large models are slow."""

    name: str
    d_model: int
    num_blocks: int
    share: float

    @property
    def spans(self) -> list[str]:
        half = self.num_blocks // 2
        return [f"0:{half}", f"{half}:{self.num_blocks}"]


NANO = Size("nano", 64, 2, 1.0)
SIZES = (NANO, Size("768x12", 768, 12, 0.2))


@dataclass(frozen=True)
class LoadRow:
    """So many sessions at once, each generating greedily."""

    model: str
    sessions: int
    tokens_per_second: float
    token_ms_p50: float
    token_ms_p99: float


@dataclass(frozen=True)
class PeerRow:
    """A host's process and its daemon, idle; seconds from its start, its weights on disk."""

    host: str
    processes: int
    pss_mb: float
    own_mb: float
    ready_seconds: float


def run(settings: BenchConfig) -> Outcome:
    """Raises SeshuError, KeyboardInterrupt."""
    return play(settings, measure, num_steps=1 + len(SIZES))


async def measure(stage: Stage, sizes: tuple[Size, ...] = SIZES) -> Outcome:
    """The peer at rest is one of the first size."""
    loads: list[LoadRow] = []
    peers: list[PeerRow] = []
    for size in sizes:
        model = stage.model(d_model=size.d_model, num_blocks=size.num_blocks)
        async with stage.village(model, size.spans) as (village, user):
            if not peers:
                stage.step("a peer at rest")
                peers = await _at_rest(village)
            stage.step(f"sessions on {size.name}")
            num_tokens = max(2, round(size.share * stage.settings.tokens))
            for number in (1, MANY):
                loads.append(await _load(user, size, number, num_tokens))
    shown = [asdict(row) for row in loads], [asdict(row) for row in peers]
    tables.show("sessions at once", shown[0])
    tables.show("a peer at rest", shown[1])
    return Outcome(results_of(loads, peers), [*shown[0], *shown[1]])


async def _at_rest(village: Village) -> list[PeerRow]:
    """Memory before the first session; then one host is started again, its weights on disk."""
    held = [held_by(host.child.process.pid) for host in village.hosts]
    seconds = [await _ready_again(village) for _ in range(READY_STARTS)]
    return [
        _peer_row(host.name, memory, quantile(seconds, 0.5))
        for host, memory in zip(village.hosts, held, strict=True)
    ]


def _peer_row(name: str, held: Held, ready_seconds: float) -> PeerRow:
    return PeerRow(name, held.num_processes, held.pss / MB, held.own / MB, ready_seconds)


async def _ready_again(village: Village) -> float:
    host = village.hosts[0]
    host.child.kill()
    await host.child.process.wait()
    return await host.start()


async def _load(user: User, size: Size, number: int, num_tokens: int) -> LoadRow:
    talks = [user.talk() for _ in range(number)]
    try:
        await asyncio.gather(*(_warm_up(talk, seed) for seed, talk in enumerate(talks)))
        began = time.perf_counter()
        told = await asyncio.gather(*(talk.go_on(num_tokens) for talk in talks))
        seconds = time.perf_counter() - began
    finally:
        await asyncio.gather(*(talk.close() for talk in talks))
    tokens: list[Token] = [token for each in told for token in each]
    times = Times.of([token.seconds for token in tokens])
    return LoadRow(size.name, number, len(tokens) / seconds, times.p50_ms, times.p99_ms)


async def _warm_up(talk: Talk, seed: int) -> None:
    await talk.read(prompt(PROMPT_TOKENS, seed))
    await talk.go_on(WARM_UP_TOKENS)


def results_of(loads: list[LoadRow], peers: list[PeerRow]) -> dict[str, float]:
    """Of peers the largest counts."""
    results: dict[str, float] = {}
    for name in dict.fromkeys(row.model for row in loads):
        of = {row.sessions: row for row in loads if row.model == name}
        ratio = of[MANY].tokens_per_second / of[1].tokens_per_second
        results[f"throughput_{MANY}_sessions_vs_1_{name}"] = ratio
        results[f"tokens_per_second_1_{name}"] = of[1].tokens_per_second
        results[f"tokens_per_second_{MANY}_{name}"] = of[MANY].tokens_per_second
    results["idle_peer_pss_mb"] = max(row.pss_mb for row in peers)
    results["ready_seconds"] = max(row.ready_seconds for row in peers)
    return results
