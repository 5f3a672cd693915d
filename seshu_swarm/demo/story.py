"""What happens in the demo, in order. It starts the roles' own commands and listens.

    open → pretrain → coordinator, three hosts, donors → round → switch → generate → compare

Knows the roles by their command lines and events only, as a person at a terminal does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.demo.board import Board, Phase
from seshu_swarm.demo.config import DemoConfig
from seshu_swarm.demo.generation import Generation, generate_everywhere
from seshu_swarm.errors import RoundError
from seshu_swarm.program.children import Child, Children, Event

COORDINATOR, PEER = "seshu_swarm.coordinator", "seshu_swarm.peer"
HERE = ("--host", "127.0.0.1")
MIN_DONORS = 3
START_SECONDS = 60.0
SLACK_SECONDS = 120.0
SWITCH_SECONDS = 60.0
SCORE_CALLS = 20
MIN_GAIN = 0.004  # with thirty tuning rows a language, less than this is noise
MAX_DETECTABLE = 0.25  # rows of many kinds: the gate's hundred and twenty are few


@dataclass(frozen=True)
class Told:
    """What the story leads to."""

    round: Event
    trained: dict[str, Event]
    generations: list[Generation]


def phases(settings: DemoConfig) -> list[Phase]:
    return [
        Phase("read the text, hold some of it out", 12),
        Phase("pretrain the base", settings.pretrain_seconds + 6),
        Phase("open the swarm", 8),
        Phase("three donors fine-tune", settings.finetune_seconds + 14),
        Phase("score blind, merge, verify, publish", 50),
        Phase("hosts fetch their blocks and switch", 8),
        Phase("generate across the swarm, lose a peer, compare", 20),
    ]


class Story:
    """`tell` runs it all; whoever calls it ends the children."""

    def __init__(
        self, settings: DemoConfig, folder: Path, board: Board, children: Children
    ) -> None:
        self._settings, self._folder = settings, folder
        self._board, self._children = board, children
        self._phases = iter(board.phases)

    def _next_phase(self) -> None:
        self._board.enter(next(self._phases).name)

    async def tell(self) -> Told:
        """Raises SeshuError naming the child that failed, or RoundError."""
        self._next_phase()
        await self._open()
        self._next_phase()
        await self._pretrain()
        self._next_phase()
        coordinator = await self._coordinate()
        link = (await coordinator.wait_for("ready", seconds=START_SECONDS))["link"]
        hosts = await self._host(link)
        self._next_phase()
        donors = await self._donate(link)
        trained = await self._await_donors(donors)
        self._next_phase()
        outcome = await coordinator.wait_for("round", seconds=2 * SLACK_SECONDS)
        if outcome["state"] != "published":
            raise RoundError(f"the round published nothing: {outcome['reason']}")
        self._next_phase()
        await self._await_switch(hosts, outcome["revision"])
        self._next_phase()
        generations = await generate_everywhere(
            self._settings,
            self._folder,
            self._children,
            link=link,
            hosts=hosts,
            checkpoint=Path(outcome["checkpoint"]),
        )
        return Told(outcome, trained, generations)

    @property
    def _run_folder(self) -> tuple[str, str]:
        return "--state-dir", str(self._folder / "run")

    async def _open(self) -> None:
        settings = self._settings
        arguments = ["open", *self._run_folder, "--run-id", "demo"]
        arguments += ["--languages", ",".join(settings.languages), "--bad-rows", settings.bad_rows]
        arguments += ["--hold-out-rows", str(settings.hold_out_rows)]
        arguments += ["--hold-out-documents", str(max(12, settings.hold_out_rows // 4))]
        if settings.data:
            arguments += ["--data", settings.data]
        child = await self._children.start("coordinator open", COORDINATOR, arguments)
        await child.wait_for_end(seconds=SLACK_SECONDS)

    async def _pretrain(self) -> None:
        settings = self._settings
        arguments = ["pretrain", *self._run_folder, "--max-seconds", str(settings.pretrain_seconds)]
        arguments += ["--d-model", str(settings.d_model), "--num-blocks", str(settings.num_blocks)]
        child = await self._children.start("coordinator pretrain", COORDINATOR, arguments)
        await child.wait_for_end(seconds=settings.pretrain_seconds + SLACK_SECONDS)

    async def _coordinate(self) -> Child:
        arguments = ["run", *self._run_folder, *HERE, "--rounds", "1"]
        arguments += ["--close-after", str(len(self._donor_languages))]
        arguments += ["--round-seconds", str(self._settings.finetune_seconds + SLACK_SECONDS)]
        arguments += ["--score-calls", str(SCORE_CALLS), "--min-gain", str(MIN_GAIN)]
        arguments += ["--max-detectable", str(MAX_DETECTABLE)]
        return await self._children.start("coordinator", COORDINATOR, arguments)

    async def _host(self, link: str) -> list[Child]:
        """Three hosts; the second half of the blocks is hosted twice."""
        num_blocks = self._settings.num_blocks
        half = num_blocks // 2
        spans = [f"0:{half}", f"{half}:{num_blocks}", f"{half}:{num_blocks}"]
        hosts = []
        for number, blocks in enumerate(spans, start=1):
            arguments = ["host", "--join", link, *HERE, "--blocks", blocks, "--poll-seconds", "1"]
            arguments += ["--state-dir", str(self._folder / f"host-{number}")]
            hosts.append(await self._children.start(f"host {number}", PEER, arguments))
        await asyncio.gather(*(host.wait_for("ready", seconds=START_SECONDS) for host in hosts))
        return hosts

    @property
    def _donor_languages(self) -> list[str]:
        languages = self._settings.languages
        return [languages[i % len(languages)] for i in range(max(MIN_DONORS, len(languages)))]

    async def _donate(self, link: str) -> dict[str, Child]:
        donors = {}
        for number, language in enumerate(self._donor_languages, start=1):
            arguments = ["finetune", "--join", link, *HERE, "--language", language]
            arguments += ["--state-dir", str(self._folder / f"donor-{number}")]
            arguments += ["--max-seconds", str(self._settings.finetune_seconds)]
            arguments += ["--max-threads", "1", "--seed", str(number)]
            name = f"donor {number} ({language})"
            donors[name] = await self._children.start(name, PEER, arguments)
        return donors

    async def _await_donors(self, donors: dict[str, Child]) -> dict[str, Event]:
        seconds = self._settings.finetune_seconds + SLACK_SECONDS
        handed_in = (donor.wait_for("handed-in", seconds=seconds) for donor in donors.values())
        await asyncio.gather(*handed_in)
        return {name: await donor.wait_for("trained", seconds=1) for name, donor in donors.items()}

    async def _await_switch(self, hosts: list[Child], revision: str) -> None:
        switched = (
            host.wait_for(
                "switched", seconds=SWITCH_SECONDS, matching=lambda e: e["revision"] == revision
            )
            for host in hosts
        )
        await asyncio.gather(*switched)
