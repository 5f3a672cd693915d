"""A made-up run for the dashboard: so many peers, so many rounds, ten languages. Drawn from a seed."""

from __future__ import annotations

import hashlib
import math
from random import Random

from seshu_swarm.dashboard.snapshot import (
    Change,
    Checkpoint,
    Donor,
    File,
    Peer,
    Round,
    Run,
    Snapshot,
    Training,
    Verdict,
)

LANGUAGES = ("as", "bn", "gu", "hi", "kn", "ml", "mr", "or", "pa", "ta", "te", "ur")
NUM_BLOCKS, NUM_ADAPTERS = 24, 12
HOUR = 3_600.0
REASONS = (
    ("NO_GAIN: without it the mixture loses nothing that counts", "train longer or on more rows"),
    ("OUTSHONE: it helps, but a mixture without it is better", "train on from the next base"),
    ("HARMFUL: even at a weight of 1/8 it harms bn, ta", "train with a lower learning rate"),
)


def digest(*parts: object) -> str:
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def snapshot(*, num_peers: int, num_rounds: int, now: float, seed: int = 0) -> Snapshot:
    """As a coordinator would see it at the time `now`."""
    random = Random(seed)
    rounds = tuple(_round(k + 1, now - (num_rounds - k) * HOUR, random) for k in range(num_rounds))
    run = Run(
        run_id="seshu",
        revision=digest("revision", num_rounds),
        num_blocks=NUM_BLOCKS,
        d_model=768,
        num_parameters=129_135_360,
        languages=LANGUAGES,
        licence="CC-BY-4.0",
        round_index=num_rounds + 1,
        round_state="open",
        round_closes_at=now + 42 * 60,
        link=f"seshu://seshu?key={digest('key')}&peer=/ip4/198.51.100.7/tcp/31337/p2p/{_peer(0)}",
    )
    return Snapshot(
        taken_at=now,
        source="Made up, to measure the page by.",
        run=run,
        peers=tuple(_host(k, now, random) for k in range(num_peers)),
        training=_training(now, random),
        rounds=rounds,
        donors=_donors(num_peers, num_rounds, random),
        checkpoints=tuple(_checkpoint(one) for one in reversed(rounds) if one.is_published),
    )


def _peer(number: int) -> str:
    return "12D3KooW" + digest("peer", number).translate(str.maketrans("0l", "zL"))[:44]


def _host(number: int, now: float, random: Random) -> Peer:
    length = random.choice((2, 4, 6, 8, 12))
    start = random.randrange(0, NUM_BLOCKS - length + 1)
    state = random.choices(("serving", "leaving", "battery is low"), (92, 5, 3))[0]
    return Peer(
        peer_id=_peer(number),
        start=start,
        end=start + length,
        revisions=(digest("revision", 0),),
        num_sessions=random.choices((0, 1, 2, 5), (5, 3, 2, 1))[0],
        step_seconds=length * random.uniform(0.0006, 0.0022),
        heard_at=now - random.choices((4.0, 9.0, 21.0, 400.0), (50, 44, 4, 2))[0],
        state=state,
    )


def _training(now: float, random: Random) -> Training:
    curve = [(k * 200, 1.1 + 3.2 * math.exp(-k / 16) + random.gauss(0, 0.03)) for k in range(101)]
    return Training(
        plan=digest("plan")[:16],
        state="over",
        step=20_000,
        num_steps=20_000,
        boundaries=(0, 8, 16, 24),
        loss=curve[-1][1],
        num_tokens=655_360_000,
        tokens_per_second=21_470.0,
        at=now - 90 * HOUR,
        num_members=31,
        curve=tuple(curve),
    )


def _round(number: int, opened_at: float, random: Random) -> Round:
    is_published = random.random() < 0.85
    verdicts = tuple(_verdict(number, k, random) for k in range(NUM_ADAPTERS))
    changes = tuple(_change(k, number, random) for k in range(len(LANGUAGES)))
    return Round(
        number=number,
        state="published" if is_published else "aborted",
        opened_at=opened_at,
        revision=digest("revision", number) if is_published else None,
        reason="" if is_published else "GATE_FAILED: hi is worse by 0.0061 bits per byte",
        num_adapters=NUM_ADAPTERS,
        num_accepted=sum(v.is_accepted for v in verdicts) if is_published else 0,
        changes=changes if is_published else (),
        verdicts=verdicts,
    )


def _change(language: int, number: int, random: Random) -> Change:
    level = 1.15 + 0.09 * language + 0.5 * math.exp(-number / 30)
    gain = random.uniform(0.001, 0.008)
    return Change(
        language=LANGUAGES[language],
        before=level,
        after=level - gain,
        low=-gain - 0.004,
        high=-gain + 0.004,
    )


def _verdict(number: int, k: int, random: Random) -> Verdict:
    is_accepted = random.random() < 0.4
    reason, next_step = random.choice(REASONS)
    return Verdict(
        digest=digest("adapter", number, k),
        language=random.choice(LANGUAGES),
        is_accepted=is_accepted,
        reason="MERGED: the mixture is better with it" if is_accepted else reason,
        next_step="keep going" if is_accepted else next_step,
        credit=round(random.uniform(0.002, 0.02) if is_accepted else random.gauss(0, 0.002), 3),
    )


def _donors(num_peers: int, num_rounds: int, random: Random) -> tuple[Donor, ...]:
    donors = []
    for number in range(min(num_peers, 60)):
        handed_in = random.randrange(1, 30)
        merged = random.randrange(0, handed_in + 1)
        credit = merged * random.uniform(0.002, 0.012)
        last = random.randrange(1, num_rounds + 1)
        donors.append(
            Donor(
                peer_id=_peer(number),
                num_adapters=handed_in,
                num_accepted=merged,
                credit=credit,
                last_round=last,
            )
        )
    return tuple(sorted(donors, key=lambda d: -d.credit))


def _checkpoint(one: Round) -> Checkpoint:
    files = [
        File(name=f"model-{k:05d}.safetensors", size_bytes=21_300_000, digest=digest(one.number, k))
        for k in range(24)
    ]
    return Checkpoint(
        revision=str(one.revision),
        kind="round",
        round=one.number,
        made_at=one.opened_at + HOUR,
        size_bytes=sum(f.size_bytes for f in files),
        files=tuple(files),
    )
