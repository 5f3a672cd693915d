"""Life of a donor: rows in, adapter out, verdict back.

Fetches the run's base, takes own rows or the shard dealt by the run's catalogue, trains here,
checks that its own held-out loss fell, leaves the adapter with its holders, hands it in, announces
a signed record, and waits for the coordinator's verdict; an adapter for a task is only announced.
Nothing but the adapter leaves the machine.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, replace

from seshu_swarm import log
from seshu_swarm.errors import JoinError, PeerError, RefusalError, SeshuError, UsageError
from seshu_swarm.joining import Joined
from seshu_swarm.peer import status
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating.handing_in import push, record_of
from seshu_swarm.peer.donating.lora_settings import lora_settings
from seshu_swarm.peer.donating.rows import Dealt, own_rows, running_text, shard_rows
from seshu_swarm.peer.donating.tuning import Tuned, tune
from seshu_swarm.peer.donating.verdicts import Word, word_of_refusal
from seshu_swarm.peer.donating.waiting import await_word
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.lending import lend
from seshu_swarm.records import AdapterRecord, RunRecord
from seshu_swarm.references import Reference
from seshu_swarm.running import Stop

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 5.0
LOOKS_PER_ANNOUNCEMENT = 720  # an hour: a record that lives a day is renewed long before


def run(settings: FinetuneConfig) -> int:
    lora_settings(settings, has_text=True)  # refuses senseless ones before anybody is joined

    async def donate(joined: Joined, guest: Guest, stop: Stop) -> bool:
        text = f"ready training for run {joined.run.run_id}"
        log.event("ready", text, peer_id=joined.swarm.peer_id)
        await Donor(joined, settings, guest, stop).live()
        return not stop.is_set()

    return lend(settings, donate)


class Donor:
    """One adapter per revision of the run."""

    def __init__(self, joined: Joined, settings: FinetuneConfig, guest: Guest, stop: Stop) -> None:
        self._joined, self._settings = joined, settings
        self._guest, self._stop = guest, stop
        self._for_task: AdapterRecord | None = None

    async def live(self) -> None:
        """Raises SeshuError; who follows raises only UsageError and JoinError, and outlives the others."""
        run: RunRecord | None = self._joined.run
        while run is not None:
            is_lost = False
            try:
                await self._one_adapter(run)
            except SeshuError as error:
                if not self._settings.follow or isinstance(error, UsageError | JoinError):
                    raise
                # A refusal was told as a verdict, and stays so until the next checkpoint.
                if not isinstance(error, RefusalError):
                    is_lost = isinstance(error, PeerError)
                    self._tell_failure(run, error, is_lost)
            if not self._settings.follow or self._stop.is_set():
                return
            run = await self._next_run(run, is_again=is_lost)

    def _tell_failure(self, run: RunRecord, error: SeshuError, is_lost: bool) -> None:
        then = "it is tried again" if is_lost else "the next checkpoint is waited for"
        text = f"no adapter on {run.revision[:12]}: {error}; next: {then}"
        log.event("failed", text, revision=run.revision, reason=str(error))
        self._show(text)

    async def _next_run(self, run: RunRecord, *, is_again: bool) -> RunRecord | None:
        """The run with its next checkpoint, or, `is_again`, as it is when it can be reached."""
        looks = 0
        while await self._stop.sleep(FOLLOW_SECONDS):
            looks += 1
            try:
                found = await self._joined.swarm.current_run(self._joined.link)
                if self._for_task and looks % LOOKS_PER_ANNOUNCEMENT == 0:
                    await self._joined.swarm.announce(self._for_task)
            except PeerError as error:
                logger.warning("no look at the run: %s", error)
                continue
            if found and (is_again or found.record.revision != run.revision):
                return found.record
        return None

    async def _one_adapter(self, run: RunRecord) -> None:
        if self._settings.rank > run.lora_max_rank:
            raise UsageError(
                f"--rank {self._settings.rank}",
                rule=f"run {run.run_id!r} takes adapters of at most rank {run.lora_max_rank}",
            )
        base = self._joined.package_folder(run.revision)
        await self._joined.store.fetch(Reference.of_swarm(run.revision), base)
        dealt = await self._rows(run)
        text = f"training on {len(dealt.rows)} {dealt.language} rows from {dealt.source}"
        log.event("rows", text, language=dealt.language, rows=len(dealt.rows), source=dealt.source)
        tuned = await tune(base, dealt, self._settings, guest=self._guest, stop=self._stop)
        if tuned is None:
            return
        reference = await push(self._joined, self._settings, self._guest, tuned)
        record = record_of(run, self._settings, tuned, reference)
        if record.purpose == "task":
            await self._offer_for_task(record)
        else:
            await self._offer_for_merging(tuned, record)

    async def _offer_for_task(self, record: AdapterRecord) -> None:
        self._for_task = record
        await self._joined.swarm.announce(record)
        text = f"offered for task {record.task}: {record.reference}; next: others get it with "
        text += f"peer adapters --join LINK --fetch {record.digest[:12]} --out FOLDER"
        log.event("offered", text, **record.model_dump(mode="json"))
        self._show(text, adapter=record.digest)

    async def _offer_for_merging(self, tuned: Tuned, record: AdapterRecord) -> None:
        self._show("waiting for the verdict", adapter=tuned.digest, language=tuned.language)
        try:
            word = await await_word(self._joined, record, self._settings, self._stop)
        except RefusalError as error:
            self._tell(tuned, word_of_refusal(error))
            raise
        self._tell(tuned, word)

    def _tell(self, tuned: Tuned, word: Word) -> None:
        facts = {"adapter": tuned.digest, "language": tuned.language, **asdict(word)}
        log.event("no-verdict" if word.state == "none" else "verdict", str(word), **facts)
        self._show("verdict", **facts)

    def _show(self, doing: str, **facts: object) -> None:
        status.write(
            self._joined.state_dir,
            role="finetune",
            guest=self._guest,
            run=self._joined.run.run_id,
            doing=doing,
            **facts,
        )

    async def _rows(self, run: RunRecord) -> Dealt:
        if not self._settings.data:
            dealt = await shard_rows(self._joined, run, self._settings.language)
        else:
            dealt = await asyncio.to_thread(own_rows, self._settings)
        if self._settings.replay_share == 0:
            return dealt
        return replace(dealt, documents=await running_text(self._joined, run))
