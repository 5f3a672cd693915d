"""`bench failover`: what a session waits when the peers that serve it are killed or fall silent.

Three spans, two hosts each, float32 on the wire. Every fault meets a fresh session at a set position;
first, middle and last span are struck in turn, half of the times between tokens and half within one.
Killed and silent is a host with its p2p daemon.
A stall is the time from the fault until the next token, or the wait for the one after it if that is
longer (the next may have been past the struck peer already), less a normal token. A killed host comes back as the same peer before the
next fault. Tokens are compared with those of the whole model in this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random

from seshu_swarm.bench.config import HOME, BenchConfig
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.bench.swarm import calm, churn, drains, rolls, tables
from seshu_swarm.bench.swarm.model import RandomModel, prompt
from seshu_swarm.bench.swarm.playing import Stage, play
from seshu_swarm.bench.swarm.stalls import Fault, StallRow, results_of, summed_up
from seshu_swarm.bench.swarm.summary import quantile
from seshu_swarm.bench.swarm.talk import Talk, Token
from seshu_swarm.bench.swarm.user import User
from seshu_swarm.bench.swarm.village import Host, Village

D_MODEL, NUM_BLOCKS = 128, 6
SPANS = ("0:2", "2:4", "4:6")
REPLICAS = 2
# Tokens before a fault, from which a normal one is known, and after it.
BEFORE_TOKENS, AFTER_TOKENS = 24, 32


Plan = Sequence[tuple[Fault, int]]


def run(settings: BenchConfig) -> Outcome:
    """Raises SeshuError, KeyboardInterrupt."""
    return play(settings, measure, num_steps=_num_faults(settings) + 4)


def _num_faults(settings: BenchConfig) -> int:
    return sum(settings.kills for _ in _plan(settings))


def _plan(settings: BenchConfig) -> Plan:
    """Kills and silence at every position; the loss of two at the first."""
    first = settings.positions[0]
    ones = [(f, position) for f in (Fault.KILL, Fault.SILENCE) for position in settings.positions]
    return [*ones, (Fault.TWO, first), (Fault.TWO_SILENT, first)]


async def measure(
    stage: Stage, spans: tuple[str, ...] = SPANS, plan: Plan | None = None
) -> Outcome:
    """`plan`: which faults at which positions; by default as the settings say."""
    settings = stage.settings
    model = stage.model(d_model=D_MODEL, num_blocks=NUM_BLOCKS)
    rows: list[StallRow] = []
    others: list[Outcome] = []
    async with stage.village(model, spans * REPLICAS) as (village, user):
        for fault, position in _plan(settings) if plan is None else plan:
            rows += await _strike_all(stage, Strikes(village, user, model), fault, position)
        if churn.seconds_of(settings) > 0:
            stage.step("requests under churn")
            others.append(Outcome(await churn.measure(settings, village, user, model)))
        if settings.drains > 0:
            stage.step("hosts leave and choose other blocks under live sessions")
            others.append(await drains.measure(settings, village, user, model))
        if settings.rolls > 0:
            stage.step("new revisions under live sessions")
            others.append(await rolls.measure(stage, village, user, model))
        if settings.links == HOME:
            stage.step("no fault at all")
            others.append(Outcome(await calm.measure(settings, user)))
    shown = summed_up(rows)
    tables.show("what a session waits when its peers fail", shown)
    results = results_of(rows)
    for other in others:
        results |= other.results
    more = [row for other in others for row in other.rows]
    return Outcome(results, [*(asdict(row) for row in rows), *shown, *more])


@dataclass(frozen=True)
class Strikes:
    """Where faults happen."""

    village: Village
    user: User
    model: RandomModel


async def _strike_all(
    stage: Stage, strikes: Strikes, fault: Fault, position: int
) -> list[StallRow]:
    seed = stage.settings.seed + position
    ids = prompt(position - BEFORE_TOKENS, seed)
    wanted = 1 + BEFORE_TOKENS + AFTER_TOKENS
    expected = await asyncio.to_thread(strikes.model.continuation, ids, wanted)
    rng, rows = Random(seed), []
    num_hops = len(strikes.village.hosts) // REPLICAS
    for number in range(stage.settings.kills):
        stage.step(f"{fault} at {position}, {number + 1} of {stage.settings.kills}")
        hops = struck_hops(fault, number, num_hops)
        talk = strikes.user.talk()
        stalls, struck = await _strike(strikes, talk, ids, hops, fault=fault, rng=rng)
        rows.append(
            StallRow(
                fault.value,
                position,
                " and ".join(place(hop, num_hops) for hop in hops),
                *stalls,
                talk.num_failovers,
                talk.ids == expected,
            )
        )
        await talk.close()
        await _bring_back(strikes.user, struck, fault)
    return rows


def struck_hops(fault: Fault, number: int, num_hops: int) -> list[int]:
    """First, middle and last place in turn; of neighbours the first two, then the next two."""
    if fault.is_of_two:
        first = number % (num_hops - 1)
        return [first, first + 1]
    return [number % num_hops]


def place(hop: int, num_hops: int) -> str:
    """A span's place in the chain, for people."""
    return {0: "first", num_hops - 1: "last"}.get(hop, "middle")


async def _strike(
    strikes: Strikes, talk: Talk, ids: list[int], hops: Sequence[int], *, fault: Fault, rng: Random
) -> tuple[tuple[float, float], list[Host]]:
    """Milliseconds of a normal token and of the stall; and who was struck."""
    await talk.read(ids)
    normal = quantile([t.seconds for t in await talk.go_on(BEFORE_TOKENS)], 0.5)
    hosts = [strikes.village.host_of(talk.peers[hop]) for hop in hops]
    struck_at = asyncio.get_running_loop().create_future()
    # Half of the faults come before the step leaves, half on its way.
    delay = normal * rng.random() if rng.random() < 0.5 else 0.0
    fall = asyncio.create_task(_fall(hosts, fault, delay, struck_at))
    if delay == 0.0:
        await fall
    tokens = await talk.go_on(AFTER_TOKENS)
    await fall
    return (1e3 * normal, 1e3 * _stall(struck_at.result(), tokens, normal)), hosts


async def _fall(
    hosts: Sequence[Host], fault: Fault, delay: float, struck_at: asyncio.Future[float]
) -> None:
    if delay:
        await asyncio.sleep(delay)
    struck_at.set_result(time.perf_counter())
    for host in hosts:
        if fault.is_silent:
            host.child.pause()
        else:
            host.child.kill()


def _stall(struck_at: float, tokens: Sequence[Token], normal: float) -> float:
    """Seconds beyond a normal token; 0 where nothing was felt."""
    after = [token for token in tokens if token.arrived > struck_at][:2]
    waits = [token.arrived - max(struck_at, token.began) for token in after]
    return max(0.0, after[0].arrived - struck_at - normal, *(wait - normal for wait in waits))


async def _bring_back(user: User, hosts: Sequence[Host], fault: Fault) -> None:
    """The next fault meets a whole swarm. A silent host wakes with the old session, and goes on."""
    if fault.is_silent:
        for host in hosts:
            host.child.resume()
    else:
        await asyncio.gather(*(host.start() for host in hosts))
    await asyncio.gather(*(user.reach(host.peer_id) for host in hosts))
