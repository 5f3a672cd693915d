"""Life of a donor: rows in, adapter out, verdict back.

Fetches the run's base, takes own rows or the shard dealt by the run's catalogue, trains here,
checks that its own held-out loss fell, leaves the adapter with its holders, hands it in, announces
a signed record, and waits for the coordinator's verdict. Nothing but the adapter leaves the machine.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from seshu_swarm import log
from seshu_swarm.dht import Found
from seshu_swarm.errors import DeadlineError, UsageError
from seshu_swarm.joining import Joined
from seshu_swarm.peer import status
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating.handing_in import ask_verdict, hand_in, push
from seshu_swarm.peer.donating.lora_settings import lora_settings
from seshu_swarm.peer.donating.rows import Dealt, own_rows, running_text, shard_rows
from seshu_swarm.peer.donating.tuning import Tuned, tune
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.lending import lend
from seshu_swarm.protocol import Verdict
from seshu_swarm.records import RunRecord
from seshu_swarm.references import Reference
from seshu_swarm.running import Stop

logger = logging.getLogger(__name__)

VERDICT_SECONDS = 2.0
FOLLOW_SECONDS = 10.0


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

    async def live(self) -> None:
        run = self._joined.run
        while True:
            await self._one_adapter(run)
            if not self._settings.follow or self._stop.is_set():
                return
            newer = await self._next_revision(run)
            if newer is None:
                return
            run = newer

    async def _next_revision(self, run: RunRecord) -> RunRecord | None:
        while await self._stop.sleep(FOLLOW_SECONDS):
            found: Found[RunRecord] | None = await self._joined.swarm.current_run(self._joined.link)
            if found and found.record.revision != run.revision:
                return found.record
        return None

    async def _one_adapter(self, run: RunRecord) -> None:
        base = self._joined.package_folder(run.revision)
        await self._joined.store.fetch(Reference.of_swarm(run.revision), base)
        dealt = await self._rows(run)
        text = f"training on {len(dealt.rows)} {dealt.language} rows from {dealt.source}"
        log.event("rows", text, language=dealt.language, rows=len(dealt.rows), source=dealt.source)
        tuned = await tune(base, dealt, self._settings, guest=self._guest, stop=self._stop)
        if tuned is None:
            return
        reference = await push(self._joined, self._settings, self._guest, tuned)
        submit = partial(hand_in, self._joined, run, self._settings, tuned, reference)
        verdict = await submit()
        log.event("handed-in", f"handed in {reference}", reference=str(reference))
        self._show(tuned, "waiting for the verdict")
        self._show(tuned, await self._await_verdict(tuned.digest, verdict, submit))

    def _show(self, tuned: Tuned, doing: str) -> None:
        status.write(
            self._joined.state_dir,
            role="finetune",
            guest=self._guest,
            run=self._joined.run.run_id,
            language=tuned.language,
            adapter=tuned.digest,
            doing=doing,
        )

    async def _rows(self, run: RunRecord) -> Dealt:
        if not self._settings.data:
            dealt = await shard_rows(self._joined, run, self._settings.language)
        elif self._settings.language:
            dealt = await asyncio.to_thread(own_rows, self._settings)
        else:
            raise UsageError("own rows need --language", way_out="for example --language hi")
        if self._settings.replay_share == 0:
            return dealt
        return replace(dealt, documents=await running_text(self._joined, run))

    async def _await_verdict(
        self, digest: str, verdict: Verdict | None, submit: Callable[[], Awaitable[Verdict | None]]
    ) -> str:
        """Wait for the coordinator's word, say it, and return it as a line."""
        deadline = time.monotonic() + self._settings.wait_seconds
        while verdict is None or verdict.state in ("pending", "unknown"):
            if time.monotonic() > deadline and self._settings.follow:
                log.event("no-verdict", "no verdict yet; going on with the next checkpoint")
                return "no verdict yet"
            if time.monotonic() > deadline:
                raise DeadlineError(
                    f"no verdict after {self._settings.wait_seconds:g} s",
                    rule="verdicts come when the round closes",
                    way_out="the adapter stays announced; wait longer with --wait-seconds",
                )
            if not await self._stop.sleep(VERDICT_SECONDS):
                return "stopped while waiting for the verdict"
            verdict = await ask_verdict(self._joined, digest)
            if verdict is not None and verdict.state == "unknown":
                # The first submission was lost on the way.
                verdict = await submit()
        text = f"{verdict.state}: {verdict.reason}"
        text += f"; gain {verdict.gain}" if verdict.gain else ""
        text += f"; next: {verdict.next_step}" if verdict.next_step else ""
        log.event("verdict", text, **verdict.model_dump())
        return text
