"""Life of a donor: rows in, adapter out, verdict back.

Fetches the run's base, takes own rows or the shard dealt by the run's catalogue, trains here,
checks that its own held-out loss fell, leaves the adapter with its holders, hands it in, announces
a signed record, and waits for the coordinator's verdict; an adapter for a task is only announced.
Nothing but the adapter leaves the machine.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace

from seshu_swarm.errors import JoinError, PeerError, RefusalError, SeshuError, UsageError
from seshu_swarm.peer import status
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating.background import in_background
from seshu_swarm.peer.donating.dealing import Deal, Deals
from seshu_swarm.peer.donating.handing_in import licence_for, push, record_of
from seshu_swarm.peer.donating.lora_settings import lora_settings
from seshu_swarm.peer.donating.rows import (
    Dealt,
    check_rows,
    own_rows,
    running_text,
    shard_rows,
)
from seshu_swarm.peer.donating.tuning import Tuned, tune
from seshu_swarm.peer.donating.verdicts import Word, word_of_refusal
from seshu_swarm.peer.donating.waiting import await_word
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.lending import lend
from seshu_swarm.program import log, waits
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import AdapterRecord, RunRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.stores.references import Reference

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 5.0
LOOKS_PER_ANNOUNCEMENT = 720  # an hour: a record that lives a day is renewed long before
AT_ONCE = -1  # every round is later


def run(settings: FinetuneConfig) -> int:
    check(settings)

    async def donate(joined: Joined, guest: Guest, stop: Stop) -> bool:
        text = f"ready training for run {joined.run.run_id}"
        log.event("ready", text, peer_id=joined.swarm.peer_id)
        await Donor(joined, settings, guest, stop).live()
        return not stop.is_set()

    return lend(settings, donate)


def check(settings: FinetuneConfig) -> None:
    """Refuse what no run can mend, before anybody is joined. Raises UsageError, DataError."""
    lora_settings(settings, has_text=True)
    check_rows(settings)


class Donor:
    """One adapter per revision of the run, and another after each round that said no to it."""

    def __init__(self, joined: Joined, settings: FinetuneConfig, guest: Guest, stop: Stop) -> None:
        self._joined, self._settings = joined, settings
        self._guest, self._stop = guest, stop
        self._deals = Deals(joined.state_dir)
        self._for_task: AdapterRecord | None = None
        self._own: Dealt | None = None

    async def live(self) -> None:
        """Raises SeshuError; who follows raises only UsageError and JoinError, and outlives the others."""
        run: RunRecord | None = self._joined.run
        check_run(self._settings, self._joined.run)
        while run is not None:
            after = await self._try(run)
            if not self._settings.follow or self._stop.is_set():
                return
            run = await self._next_run(run, after)

    async def _try(self, run: RunRecord) -> int | None:
        """The round after which this base is worth another try; None: only another base is."""
        try:
            word = await self._one_adapter(run)
        except SeshuError as error:
            if not self._settings.follow or isinstance(error, UsageError | JoinError):
                raise
            if isinstance(error, RefusalError):
                # It was told as a verdict; what was trained is offered again in the next round.
                return run.round_index
            is_lost = isinstance(error, PeerError)
            self._tell_failure(run, error, is_lost)
            return AT_ONCE if is_lost else None
        if word is None or word.state == "accepted":
            return None
        return run.round_index if word.round_index is None else word.round_index

    def _tell_failure(self, run: RunRecord, error: SeshuError, is_lost: bool) -> None:
        then = "it is tried again" if is_lost else "the next checkpoint is waited for"
        text = f"no adapter on {run.revision[:12]}: {error}; next: {then}"
        self._show(text)
        log.event("failed", text, revision=run.revision, reason=str(error))

    async def _next_run(self, run: RunRecord, after: int | None) -> RunRecord | None:
        """The run with its next checkpoint, or with a round later than `after`; None if stopped."""
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
            if found and goes_on(run, found.record, after):
                return found.record
        return None

    async def _one_adapter(self, run: RunRecord) -> Word | None:
        """The word on it; None for one that is not for merging, or if stopped."""
        check_run(self._settings, run)
        base = self._joined.package_folder(run.revision)
        with waits.waiting(f"revision {run.revision[:12]} of the run"):
            await self._joined.store.fetch(Reference.of_swarm(run.revision), base)
        deal = self._deals.of(run.revision, run.round_index)
        dealt = await self._rows(run, deal)
        if dealt is None:
            return None
        text = f"training on {len(dealt.rows)} {dealt.language} rows from {dealt.source}"
        licence, why = licence_for(self._settings)
        text += f"; the adapter will be under {licence}: {why}"
        facts = {"language": dealt.language, "rows": len(dealt.rows), "source": dealt.source}
        log.event("rows", text, licence=licence, **facts)
        settings = replace(self._settings, seed=self._settings.seed + deal.tries)
        tuned = await tune(base, dealt, settings, guest=self._guest, stop=self._stop)
        if tuned is None:
            return None
        pushing = push(self._joined, self._settings, self._guest, tuned, stop=self._stop)
        if (reference := await pushing) is None:
            return None
        record = record_of(run, self._settings, tuned, reference)
        if record.purpose == "task":
            await self._offer_for_task(record)
            return None
        word = await self._offer_for_merging(tuned, record)
        if word.is_final_no:
            rejected_in = run.round_index if word.round_index is None else word.round_index
            self._deals.reject(run.revision, deal, rejected_in)
        return word

    async def _offer_for_task(self, record: AdapterRecord) -> None:
        self._for_task = record
        await self._joined.swarm.announce(record)
        text = f"offered for task {record.task}: {record.reference}; next: others get it with "
        text += f"peer adapters --join LINK --fetch {record.digest[:12]} --out FOLDER"
        self._show(text, adapter=record.digest)
        log.event("offered", text, **record.model_dump(mode="json"))

    async def _offer_for_merging(self, tuned: Tuned, record: AdapterRecord) -> Word:
        self._show("waiting for the verdict", adapter=tuned.digest, language=tuned.language)
        try:
            with waits.waiting("the round's verdict", self._settings.wait_seconds):
                word = await await_word(self._joined, record, self._settings, self._stop)
        except RefusalError as error:
            self._tell(tuned, word_of_refusal(error))
            raise
        self._tell(tuned, word)
        return word

    def _tell(self, tuned: Tuned, word: Word) -> None:
        facts = {"adapter": tuned.digest, "language": tuned.language, **asdict(word)}
        self._show("verdict", **facts)
        log.event("no-verdict" if word.state == "none" else "verdict", str(word), **facts)

    def _show(self, doing: str, **facts: object) -> None:
        """For `peer status`, before it is said aloud: who hears of it may ask at once."""
        status.write(
            self._joined.state_dir,
            role="finetune",
            guest=self._guest,
            run=self._joined.run.run_id,
            doing=doing,
            **facts,
        )

    async def _rows(self, run: RunRecord, deal: Deal) -> Dealt | None:
        round_index = deal.round_index
        if not self._settings.data:
            language = self._settings.language
            dealt = await shard_rows(self._joined, run, language, round_index=round_index)
        elif (found := await self._own_rows()) is not None:
            dealt = found
        else:
            return None
        if self._settings.replay_share == 0:
            return dealt
        documents = await running_text(self._joined, run, round_index=round_index)
        return replace(dealt, documents=documents)

    async def _own_rows(self) -> Dealt | None:
        """Read once, however many adapters are made of them; None if stopped."""
        if self._own is None:
            should_stop = self._stop.is_set
            reading = in_background(self._stop, lambda: own_rows(self._settings, should_stop))
            self._own = await reading
        return self._own


def check_run(settings: FinetuneConfig, run: RunRecord) -> None:
    """Refuse what this run does not take, by name. Raises UsageError."""
    if settings.rank > run.lora_max_rank:
        raise UsageError(
            f"--rank {settings.rank}",
            rule=f"run {run.run_id!r} takes adapters of at most rank {run.lora_max_rank}",
        )
    # What is offered for a task is never merged, so its language is its donor's affair.
    if settings.language and not settings.task and settings.language not in run.languages:
        raise UsageError(
            f"--language {settings.language}",
            rule=f"run {run.run_id!r} merges adapters for {', '.join(run.languages)}",
            way_out="choose one of them, or offer the adapter for a task with --task",
        )


def goes_on(run: RunRecord, found: RunRecord, after: int | None) -> bool:
    """Whether there is something to do: another base, or a round later than `after` on this one."""
    return found.revision != run.revision or (after is not None and found.round_index > after)
