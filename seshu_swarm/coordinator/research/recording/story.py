"""The run and its donors as processes, round after round, over the commands that people use.

Whoever is forged is handed in here, through the intake's own rules on the run's ledger. Knows the
roles by their command lines and events; what is done already is in the ledger and in the notes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.coordinator.research.config import RecordConfig
from seshu_swarm.coordinator.research.recording.crowd import (
    Kind,
    Member,
    crowd,
    num_rounds,
    round_size,
    trained,
)
from seshu_swarm.coordinator.research.recording.forging import forge
from seshu_swarm.coordinator.research.recording.notes import Notes
from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.rounds.states import ENDED
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.data.catalogue import read_shard, shards_of
from seshu_swarm.data.jsonl import row_line
from seshu_swarm.data.text import Row
from seshu_swarm.errors import RoundError, SeshuError, TrainingError
from seshu_swarm.network import identity
from seshu_swarm.program.children import Child, Children, Event
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord
from seshu_swarm.stores import references

COORDINATOR, PEER = "seshu_swarm.coordinator", "seshu_swarm.peer"
HERE = ("--host", "127.0.0.1")
COORDINATOR_NAME = "coordinator"
START_SECONDS, SLACK_SECONDS, ROUND_SECONDS = 90.0, 300.0, 86_400.0
MAX_STAND_INS = 10
TICK_SECONDS = 0.2
HEAVY = 4  # pretraining, and scoring a round, take about as long as so many adapters

Report = Callable[[float, str], None]


class Story:
    """`tell` runs what is left of it; whoever calls it ends the children."""

    def __init__(
        self, settings: RecordConfig, work: Path, notes: Notes, children: Children, report: Report
    ) -> None:
        self._settings, self._work, self._notes = settings, work, notes
        self._folder = RunFolder(settings.out_path)
        self._children, self._report = children, report
        self._members = crowd(settings.adapters, settings.languages, seed=settings.seed)
        self._at_once = asyncio.Semaphore(settings.donors_at_once)
        self._has_base, self._num_ended = False, 0

    async def tell(self) -> None:
        """Raises SeshuError naming the child that failed, or RoundError."""
        await self._open()
        ledger = Ledger(self._folder.ledger)
        await self._pretrain(ledger)
        self._has_base = True
        total = num_rounds(self._settings.adapters)
        ended = self._num_ended = sum(found.state in ENDED for found in ledger.rounds())
        if ended == total:
            return
        for number in range(ended + 1, total + 1):
            self._say(f"round {number}: starting the coordinator")
            coordinator = await self._coordinate()
            await self._hold(ledger, number, coordinator)
            self._num_ended = number
            coordinator.terminate()
            await coordinator.process.wait()

    def hear(self, name: str, event: Event) -> None:
        """Show how far the coordinator's own work is; donors are told of when they are done."""
        if name.startswith(COORDINATOR_NAME) and event["event"] == "progress":
            self._say(f"{event['label']} {event['fraction']:.0%}")

    async def _open(self) -> None:
        if self._folder.ledger.exists() and Ledger(self._folder.ledger).fact("run_id"):
            return
        self._say("reading the text")
        settings = self._settings
        arguments = ["open", *self._run_folder, "--run-id", "recording", "--bad-rows", "skip"]
        arguments += ["--languages", ",".join(settings.languages), "--licence", settings.licence]
        arguments += ["--hold-out-rows", str(settings.hold_out_rows)]
        arguments += ["--hold-out-documents", str(max(24, settings.hold_out_rows // 8))]
        if settings.data:
            arguments += ["--data", settings.data]
        child = await self._children.start(f"{COORDINATOR_NAME}-open", COORDINATOR, arguments)
        await child.wait_for_end(seconds=SLACK_SECONDS)

    async def _pretrain(self, ledger: Ledger) -> None:
        if ledger.fact("revision"):
            return
        self._say("pretraining the base")
        settings = self._settings
        arguments = ["pretrain", *self._run_folder, "--max-seconds", str(settings.pretrain_seconds)]
        arguments += ["--d-model", str(settings.d_model), "--num-blocks", str(settings.num_blocks)]
        child = await self._children.start(f"{COORDINATOR_NAME}-pretrain", COORDINATOR, arguments)
        await child.wait_for_end(seconds=settings.pretrain_seconds + SLACK_SECONDS)

    async def _coordinate(self) -> Child:
        """For one round: the next one would take up what this one's donors have announced."""
        arguments = ["run", *self._run_folder, *HERE, "--rounds", "1"]
        arguments += ["--close-after", str(round_size(self._settings.adapters))]
        arguments += ["--round-seconds", str(ROUND_SECONDS)]
        return await self._children.start(COORDINATOR_NAME, COORDINATOR, arguments)

    @property
    def _run_folder(self) -> tuple[str, str]:
        return "--state-dir", str(self._folder.path)

    async def _hold(self, ledger: Ledger, number: int, coordinator: Child) -> None:
        """All members of a round, then its end."""
        link = (await coordinator.wait_for("ready", seconds=START_SECONDS))["link"]
        while len(ledger.rounds()) < number:
            if coordinator.process.returncode is not None:
                raise RoundError(f"the coordinator ended before round {number}; see its log")
            await asyncio.sleep(TICK_SECONDS)
        current = ledger.round(number)
        mine = [member for member in self._members if member.round == number]
        honest = [self._train(m, link) for m in mine if not m.is_forged]
        await asyncio.gather(*(work for work in honest))
        wanted = sum(not member.is_forged for member in mine)
        for place in range(len(honest), len(honest) + MAX_STAND_INS):
            if len(self._trained(number)) >= wanted:
                break
            await self._train(self._stand_in(number, place), link)
        for member in mine:
            if member.is_forged and member.name not in self._notes.members:
                await asyncio.to_thread(self._hand_in_forged, member, ledger, current)
        self._say(f"round {number}: scoring blind")
        # A round that was being scored when it was killed says its end too.
        await coordinator.wait_for(
            "round", seconds=ROUND_SECONDS, matching=lambda event: event["round"] == number
        )

    def _stand_in(self, number: int, place: int) -> Member:
        return trained(number, place, self._settings.languages, seed=self._settings.seed)

    def _trained(self, number: int) -> list[str]:
        found = self._notes.handed_in(number)
        return [facts["digest"] for facts in found if facts["source"] is None]

    async def _train(self, member: Member, link: str) -> None:
        """One donor from rows to a handed-in adapter; one that withholds its adapter is noted."""
        async with self._at_once:
            if member.name in self._notes.members:
                return
            rows = await asyncio.to_thread(self._write_rows, member)
            arguments = ["finetune", "--join", link, *HERE, "--language", member.language]
            arguments += ["--state-dir", str(self._work / member.name), "--data", str(rows)]
            arguments += ["--rank", str(member.rank), "--max-steps", str(member.max_steps)]
            arguments += ["--learning-rate", str(member.learning_rate), "--seed", str(member.seed)]
            arguments += ["--replay-share", str(member.replay_share), "--max-threads", "1"]
            arguments += ["--licence", self._settings.licence]
            donor = await self._children.start(member.name, PEER, arguments)
            try:
                event = await donor.wait_for("handed-in", seconds=SLACK_SECONDS)
            except SeshuError as error:
                if error.exit_code != TrainingError.exit_code:
                    raise
                self._notes.add(member, digest=None, why=error.what[:300])
                return
            self._notes.add(member, digest=references.parse(event["reference"]).digest)
            self._say(f"{member.name} handed in")
            donor.terminate()
            await donor.process.wait()

    def _write_rows(self, member: Member) -> Path:
        """Rows from the run's catalogue, which holds nothing that is held out.

        Without their language: the donor's declaration is all there is.
        """
        ledger = Ledger(self._folder.ledger)
        catalogue = self._folder.package(ledger.fact("catalogue"))
        names = shards_of(packages.read_manifest(catalogue), member.rows_language)
        rows = [row for name in names for row in read_shard(catalogue / name)]
        chosen = random.Random(member.name).sample(rows, min(member.num_rows, len(rows)))
        path = self._work / "rows" / f"{member.name}.jsonl"
        lines = (row_line(_declared(row, member.language)) for row in chosen)
        packages.write_whole(path, "".join(lines).encode("utf-8"))
        return path

    def _hand_in_forged(self, member: Member, ledger: Ledger, current: Round) -> None:
        source = self._source(member)
        place = self._folder.adapter(source)
        base = self._folder.package(current.parent)
        adapter = gather.read_again(place, source, checkpoints.read_shape(base))
        fresh = self._work / "forged" / member.name
        digest = forge(
            place,
            adapter,
            member.kind,
            fresh,
            base_revision=current.parent,
            seed=current.number * 100 + member.number,
        )
        packages.publish_folder(fresh, self._folder.adapter(digest))
        owner = identity.load_or_create(self._work / "forgers" / member.name).peer_id
        record = self._record(adapter, digest, current, ledger)
        Intake(ledger, lambda: ledger.round(current.number)).take(
            owner, record_bytes.to_bytes(record)
        )
        self._notes.add(member, digest=digest, source=source)

    def _source(self, member: Member) -> str:
        """The digest of an honest adapter of the round, or of the one before."""
        number = member.round - 1 if member.kind is Kind.OLD else member.round
        found = self._notes.handed_in(number, Kind.HONEST)
        if not found:
            raise RoundError(f"{member.name} finds no honest adapter in round {number}")
        digest: str = found[member.number % len(found)]["digest"]
        return digest

    def _record(
        self, adapter: Adapter, digest: str, current: Round, ledger: Ledger
    ) -> AdapterRecord:
        return AdapterRecord(
            run_id=ledger.fact("run_id"),
            reference=str(references.Reference.of_swarm(digest)),
            digest=digest,
            base_revision=current.parent,
            rank=adapter.rank,
            language=str(adapter.about["language"]),
            num_rows=int(str(adapter.about["num_rows"])),
            licence=self._settings.licence,
            round_index=current.number,
        )

    def _say(self, doing: str) -> None:
        rounds, size = num_rounds(self._settings.adapters), round_size(self._settings.adapters)
        adapters = sum(facts["digest"] is not None for facts in self._notes.members.values())
        done = adapters + HEAVY * (self._has_base + self._num_ended)
        self._report(done / (rounds * size + HEAVY * (1 + rounds)), doing)


def _declared(row: Row, language: str) -> Row:
    return Row(row.instruction, row.input, row.output, language)
