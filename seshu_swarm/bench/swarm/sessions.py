"""`bench sessions`: eight sessions at once against one, a peer at rest, and how soon it is ready.

Two spans. The model with near-zero computing shows what the swarm itself can carry; the one of
768 × 12 what batching gives where computing counts.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import asdict, dataclass

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.memory import Held, held_by
from seshu_swarm.bench.swarm.playing import Stage, play
from seshu_swarm.bench.swarm.summary import quantile
from seshu_swarm.bench.swarm.village import Village

MANY = 8
# Client processes and sessions of all of them: one user, eight of one gateway, eight of two.
LOADS = ((1, 1), (1, MANY), (2, MANY))
LOAD_SECONDS, END_SECONDS = 600.0, 30.0
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
    """So many sessions at once, each generating greedily, in so many processes; times of the slowest."""

    model: str
    clients: int
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
        async with stage.village(model, size.spans) as (village, _):
            if not peers:
                stage.step("a peer at rest")
                peers = await _at_rest(village)
            stage.step(f"sessions on {size.name}")
            num_tokens = max(2, round(size.share * stage.settings.tokens))
            for clients, sessions in LOADS:
                loads.append(await _load(village, size, clients, sessions, num_tokens))
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


async def _load(village: Village, size: Size, clients: int, sessions: int, tokens: int) -> LoadRow:
    """So many sessions, evenly spread over client processes that begin at one moment."""
    share = sessions // clients
    starting = (village.start_users(n, sessions=share, tokens=tokens) for n in range(clients))
    children = await asyncio.gather(*starting)
    for child in children:
        child.process.send_signal(signal.SIGUSR1)
    done = [await child.wait_for("done", seconds=LOAD_SECONDS) for child in children]
    await asyncio.gather(*(child.wait_for_end(seconds=END_SECONDS) for child in children))
    seconds = max(each["ended"] for each in done) - min(each["began"] for each in done)
    rate = sessions * tokens / seconds
    slowest = max(done, key=lambda each: float(each["p50_ms"]))
    return LoadRow(size.name, clients, sessions, rate, slowest["p50_ms"], slowest["p99_ms"])


def results_of(loads: list[LoadRow], peers: list[PeerRow]) -> dict[str, float]:
    """Of peers the largest counts."""
    results: dict[str, float] = {}
    for name in dict.fromkeys(row.model for row in loads):
        rates = {(r.clients, r.sessions): r.tokens_per_second for r in loads if r.model == name}
        results[f"tokens_per_second_1_{name}"] = rates[1, 1]
        for clients, sessions in LOADS[1:]:
            of = f"{sessions}_sessions_of_{clients}_client{'s' * (clients > 1)}"
            results[f"tokens_per_second_{of}_{name}"] = rates[clients, sessions]
            results[f"throughput_{of}_vs_1_{name}"] = rates[clients, sessions] / rates[1, 1]
    results["idle_peer_pss_mb"] = max(row.pss_mb for row in peers)
    results["ready_seconds"] = max(row.ready_seconds for row in peers)
    return results
