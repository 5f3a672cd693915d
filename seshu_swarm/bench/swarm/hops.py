"""`bench hops`: what a hop adds to a token, beyond computing it.

A model with a near-zero amount of computing, one block for each hop, one session. Non-compute time
of a token = its step's wall time less the seconds that the peers say they computed. Bytes are those
of whole frames in the stream that carries the tokens, the largest of the client's: every other hop
carries the same message. Snapshots of the state are counted apart. Results without a number are the
worst over all hop counts; `wire_bytes_per_token_per_hop` is with bfloat16 on the wire. What the client
sends in all, with float32, shows the star: there it feeds every hop.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.swarm import tables
from seshu_swarm.bench.swarm.model import prompt
from seshu_swarm.bench.swarm.playing import Stage, play
from seshu_swarm.bench.swarm.summary import Times
from seshu_swarm.bench.swarm.talk import Token
from seshu_swarm.bench.swarm.user import User

HOPS = (1, 2, 3, 4)
D_MODEL = 64
PROMPT_TOKENS = 64
WARM_UP_TOKENS = 50
NAMES = (
    "token_ms_p50",
    "star_token_ms_p50",
    "hop_overhead_ms_p50",
    "hop_overhead_ms_p99",
    "wire_bytes_per_token_per_hop",
    "wire_bytes_per_token_per_hop_float32",
    "client_bytes_per_token",
    "star_client_bytes_per_token",
    "snapshot_bytes_per_token",
)


@dataclass(frozen=True)
class HopRow:
    """`token_ms` is a whole step, `star_token_ms` one where all passes through the client; the overhead
    is one hop's share without computing."""

    num_hops: int
    token_ms_p50: float
    star_token_ms_p50: float
    compute_ms_p50: float
    hop_overhead_ms_p50: float
    hop_overhead_ms_p99: float
    wire_bytes_per_token_per_hop: float
    wire_bytes_per_token_per_hop_float32: float
    client_bytes_per_token: float
    star_client_bytes_per_token: float
    snapshot_bytes_per_token: float
    tokens: int


def run(settings: BenchConfig) -> Outcome:
    """Raises SeshuError, KeyboardInterrupt."""
    return play(settings, measure, num_steps=len(HOPS))


async def measure(stage: Stage, hop_counts: tuple[int, ...] = HOPS) -> Outcome:
    rows = []
    for num_hops in hop_counts:
        stage.step(f"{num_hops} hop(s)")
        rows.append(await _row(stage, num_hops))
    shown = [asdict(row) for row in rows]
    tables.show("what a hop adds to a token", shown)
    return Outcome(results_of(rows), shown)


async def _row(stage: Stage, num_hops: int) -> HopRow:
    model = stage.model(d_model=D_MODEL, num_blocks=num_hops)
    spans = [f"{block}:{block + 1}" for block in range(num_hops)]
    ids, num_tokens = prompt(PROMPT_TOKENS, stage.settings.seed), stage.settings.tokens
    async with stage.village(model, spans) as (_, user):
        full = await _listen(user, ids, num_tokens, wire_type="float32")
        half = await _listen(user, ids, num_tokens, wire_type="bfloat16")
        star = await _listen(user, ids, num_tokens, is_star=True)
    overhead = Times.of([(t.seconds - t.compute_seconds) / num_hops for t in full.tokens])
    return HopRow(
        num_hops,
        token_ms_p50=Times.of([t.seconds for t in full.tokens]).p50_ms,
        star_token_ms_p50=Times.of([t.seconds for t in star.tokens]).p50_ms,
        compute_ms_p50=Times.of([t.compute_seconds for t in full.tokens]).p50_ms,
        hop_overhead_ms_p50=overhead.p50_ms,
        hop_overhead_ms_p99=overhead.p99_ms,
        wire_bytes_per_token_per_hop=half.wire_bytes / num_tokens,
        wire_bytes_per_token_per_hop_float32=full.wire_bytes / num_tokens,
        client_bytes_per_token=full.client_bytes / num_tokens,
        star_client_bytes_per_token=star.client_bytes / num_tokens,
        snapshot_bytes_per_token=full.snapshot_bytes / num_tokens,
        tokens=num_tokens,
    )


@dataclass(frozen=True)
class Listened:
    """Tokens of one session after it has warmed up, and the bytes of these tokens: those of the stream
    that carries most, and all that the client sent."""

    tokens: list[Token]
    wire_bytes: int
    client_bytes: int
    snapshot_bytes: int


async def _listen(
    user: User,
    ids: list[int],
    num_tokens: int,
    *,
    wire_type: str = "float32",
    is_star: bool = False,
) -> Listened:
    talk = user.talk(wire_type=wire_type, is_star=is_star)
    await talk.read(ids)
    await talk.go_on(WARM_UP_TOKENS)
    before, snapshots = user.sent_bytes(), talk.snapshot_bytes
    tokens = await talk.go_on(num_tokens)
    grown = [now - before.get(stream, 0) for stream, now in user.sent_bytes().items()]
    snapshots = talk.snapshot_bytes - snapshots
    await talk.close()
    return Listened(tokens, max(grown), sum(grown), snapshots)


def results_of(rows: list[HopRow]) -> dict[str, float]:
    """Each hop count's numbers, and the worst of them."""
    results: dict[str, float] = {}
    for name in NAMES:
        each = {f"{name}_{row.num_hops}": float(getattr(row, name)) for row in rows}
        results |= {name: max(each.values())} | each
    return results
