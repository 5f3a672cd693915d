"""`client generate`: one answer, streamed to the terminal as it comes."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from seshu_swarm.client.config import GenerateConfig
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.client.remote.sampling import Sampler
from seshu_swarm.client.remote.token_session import TokenSession
from seshu_swarm.client.terminal.lines import note_roll
from seshu_swarm.data.prompts import prompt_for_generation
from seshu_swarm.data.tokeniser import ByteTokeniser, StreamDecoder
from seshu_swarm.errors import UsageError
from seshu_swarm.packages import write_whole
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import join


def run(settings: GenerateConfig) -> int:
    if not settings.prompt:
        raise UsageError("no prompt given", way_out="--prompt 'text'")
    return running.run(lambda stop: generate(settings, stop))


async def generate(settings: GenerateConfig, stop: Stop) -> int:
    joined = await join(settings)
    try:
        model = await RemoteModel.connect(joined)
        session = TokenSession(model, settings.step_seconds, on_roll=note_roll)
        facts = await _stream(settings, session, stop)
        await session.close()
    finally:
        await joined.swarm.leave()
    facts |= {"revision": session.revision, "recoveries": session.recoveries}
    facts |= {"rolls": [dataclasses.asdict(roll) for roll in session.rolls]}
    log.event("generated", _ending(facts), **facts)
    if settings.report:
        write_whole(Path(settings.report), json.dumps(facts, ensure_ascii=False).encode())
    return 0


async def _stream(settings: GenerateConfig, session: TokenSession, stop: Stop) -> dict[str, Any]:
    prompt = settings.prompt if settings.raw else prompt_for_generation(settings.prompt)
    ids = ByteTokeniser().encode(prompt)
    decoder, tokens = StreamDecoder(), list[int]()
    choose = Sampler(settings.temperature, settings.seed)
    stop_ids = set() if settings.ignore_end else {ByteTokeniser.eos_id}
    started, first = time.perf_counter(), 0.0
    async for token in session.generate(
        ids,
        choose=choose,
        max_new_tokens=settings.max_new_tokens,
        stop_ids=stop_ids,
    ):
        first = first or time.perf_counter()
        tokens.append(token)
        _show(decoder.push([token]), tokens, session)
        if stop.is_set():
            break
    seconds = time.perf_counter() - (first or started)
    if log.is_text():
        sys.stdout.write(decoder.finish())
    return {
        "prompt_ids": ids,
        "tokens": tokens,
        "answer": ByteTokeniser().decode(tokens),
        "peers": session.peers,
        "tokens_per_second": (len(tokens) - 1) / seconds if len(tokens) > 1 else 0.0,
        "first_token_seconds": (first or time.perf_counter()) - started,
    }


def _show(text: str, tokens: list[int], session: TokenSession) -> None:
    if log.is_text():
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        log.event("token", text, token=tokens[-1], count=len(tokens), peers=session.peers)


def _ending(facts: dict[str, Any]) -> str:
    hops = " → ".join(f"…{peer[-6:]}" for peer in facts["peers"])
    lost = f"; {len(facts['recoveries'])} peer(s) replaced" if facts["recoveries"] else ""
    return f"\n[{facts['tokens_per_second']:.1f} tokens/s over {hops}{lost}]"
