"""Text in every language across the swarm; one of two equal peers is killed on the way.

The greedy tokens must be those of the whole model run in this very process.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seshu_swarm import checkpoints
from seshu_swarm.data.holdout import read_holdout
from seshu_swarm.data.tokeniser import ByteTokeniser
from seshu_swarm.demo.config import DemoConfig
from seshu_swarm.mamba.whole import WholeModel
from seshu_swarm.program.children import Child, Children, Event

CLIENT = "seshu_swarm.client"
GENERATE_SECONDS = 90.0
TOKENS_BEFORE_THE_KILL = 8
STRUCK_TOKENS = 5  # times as many tokens where a peer is killed, so that it happens on the way
PROMPT_CHARACTERS = 80


@dataclass(frozen=True)
class Generation:
    """One prompt's tokens across the swarm and in one process."""

    language: str
    prompt: str
    answer: str
    tokens: list[int]
    expected: list[int]
    tokens_per_second: float
    killed: str | None
    recoveries: list[str]

    @property
    def is_identical(self) -> bool:
        return self.tokens == self.expected


@dataclass(frozen=True)
class Setting:
    """Where and how to generate."""

    children: Children
    folder: Path
    link: str
    prompts: dict[str, str]
    num_tokens: int


async def generate_everywhere(
    settings: DemoConfig,
    folder: Path,
    children: Children,
    *,
    link: str,
    hosts: list[Child],
    checkpoint: Path,
) -> list[Generation]:
    """One generation a language; in the last one a peer that is in use is killed."""
    prompts = _prompts(folder, settings.languages)
    run = Setting(children, folder, link, prompts, settings.max_new_tokens)
    whole = await asyncio.to_thread(checkpoints.load_whole, checkpoint)
    *calm, last = settings.languages
    found = await asyncio.gather(*(_generate(run, language) for language in calm))
    struck = await _generate(run, last, victims=hosts)
    return [
        await asyncio.to_thread(_compare, whole, name, prompts[name], facts)
        for name, facts in zip(settings.languages, [*found, struck], strict=True)
    ]


def _prompts(folder: Path, languages: tuple[str, ...]) -> dict[str, str]:
    """A question from the final split for each language: nobody trained on it."""
    rows = read_holdout(folder / "run" / "hold-outs" / "final-1.jsonl").rows
    return {name: _shortest(rows[name]) for name in languages}


def _shortest(rows: Any) -> str:
    row = min(rows, key=lambda r: (len(r.instruction) + len(r.input), r.digest))
    return " ".join(f"{row.instruction} {row.input}".split())[:PROMPT_CHARACTERS]


async def _generate(run: Setting, language: str, *, victims: list[Child] | None = None) -> Event:
    num_tokens = run.num_tokens * (STRUCK_TOKENS if victims else 1)
    arguments = ["generate", "--join", run.link, "--host", "127.0.0.1"]
    arguments += ["--prompt", run.prompts[language], "--ignore-end"]
    arguments += ["--state-dir", str(run.folder / f"client-{language}")]
    arguments += ["--max-new-tokens", str(num_tokens)]
    client = await run.children.start(f"client ({language})", CLIENT, arguments)
    killed = await _kill_one(client, victims) if victims else None
    facts = await client.wait_for("generated", seconds=GENERATE_SECONDS)
    return {**facts, "killed": killed}


async def _kill_one(client: Child, hosts: list[Child]) -> str:
    """Wait until the client is in the midst of it, then kill the twin that serves it."""
    token = await client.wait_for(
        "token",
        seconds=GENERATE_SECONDS,
        matching=lambda event: event["count"] >= TOKENS_BEFORE_THE_KILL,
    )
    serving = token["peers"][-1]
    for host in hosts:
        if (await host.wait_for("ready", seconds=1))["peer_id"] == serving:
            host.kill()
            return host.name
    raise AssertionError(f"no host has the peer id {serving}")


def _compare(whole: WholeModel, language: str, prompt: str, facts: Event) -> Generation:
    expected = whole.generate_greedy(facts["prompt_ids"], max_new_tokens=len(facts["tokens"]))
    return Generation(
        language=language,
        prompt=prompt,
        answer=ByteTokeniser().decode(facts["tokens"]),
        tokens=facts["tokens"],
        expected=expected,
        tokens_per_second=facts["tokens_per_second"],
        killed=facts["killed"],
        recoveries=facts["recoveries"],
    )
