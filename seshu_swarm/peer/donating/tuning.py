"""One adapter on this machine, within its owner's limits: training in a thread, with progress."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.data.text import Document, Row
from seshu_swarm.errors import MemoryLimitError
from seshu_swarm.peer import status
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.peer.donating.lora_settings import lora_settings
from seshu_swarm.peer.donating.rows import Dealt
from seshu_swarm.peer.guest import Guest
from seshu_swarm.program import log
from seshu_swarm.program.progress import Bar
from seshu_swarm.program.running import Stop

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
STATUS_SECONDS = 2.0


@dataclass(frozen=True)
class Tuned:
    """A finished adapter package."""

    folder: Path
    digest: str
    language: str
    num_rows: int


async def tune(
    base: Path,
    dealt: Dealt,
    settings: FinetuneConfig,
    *,
    guest: Guest,
    stop: Stop,
) -> Tuned | None:
    """Train, or take up what an earlier start finished; None if stopped. Raises TrainingError."""
    folder = _folder(base, dealt, settings)
    if (folder / packages.MANIFEST).exists():
        manifest = packages.verify(folder)
        log.event("trained", f"adapter {manifest.digest[:12]} was trained before", resumed=True)
        # Of the rows that were dealt some were held out, and some were there twice.
        return Tuned(folder, manifest.digest, dealt.language, int(manifest.about["num_rows"]))
    return await asyncio.to_thread(_train, base, dealt, settings, folder, Watch(guest, stop))


def _folder(base: Path, dealt: Dealt, settings: FinetuneConfig) -> Path:
    """Of the adapter: one per base, rows and settings, so that the same command finds its own."""
    return _place(base, dealt, settings, without=("state_period_seconds",))


def _state_folder(base: Path, dealt: Dealt, settings: FinetuneConfig) -> Path:
    """Of the training that is not done: also with more steps or time it is the same training."""
    without = ("state_period_seconds", "max_steps", "max_seconds")
    folder = _place(base, dealt, settings, without=without)
    return folder.with_name(folder.name + ".state")


def _place(base: Path, dealt: Dealt, settings: FinetuneConfig, *, without: tuple[str, ...]) -> Path:
    wanted = dataclasses.asdict(lora_settings(settings, has_text=bool(dealt.documents)))
    for name in without:
        del wanted[name]
    items: list[Row | Document] = [*dealt.rows, *dealt.documents]
    digests = [item.digest for item in items]
    key = json.dumps([wanted, dealt.language, digests])
    name = f"{base.name[:16]}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return settings.state_path / "adapters" / name


class Watch:
    """Called before every step: pauses, refuses to outgrow the memory limit, shows the status."""

    def __init__(self, guest: Guest, stop: Stop) -> None:
        self._guest, self._stop = guest, stop
        self.progress = 0.0

    def should_stop(self) -> bool:
        return self._stop.is_set()

    def before_step(self) -> None:
        while (reason := self._guest.pause_reason()) and not self._stop.is_set():
            logger.info("paused: %s", reason)
            time.sleep(PAUSE_SECONDS)
        if self._guest.limits.max_memory_bytes is not None and self._guest.free_bytes() < 0:
            raise MemoryLimitError(
                f"training outgrew the limits ({self._guest.limits})",
                rule="a guest stays within them",
                way_out="raise --max-memory; what was trained so far is kept",
            )

    def write_status(self, state_dir: Path, **facts: object) -> None:
        status.write(state_dir, role="finetune", guest=self._guest, **facts)


def _train(
    base: Path, dealt: Dealt, settings: FinetuneConfig, folder: Path, watch: Watch
) -> Tuned | None:
    # transformers and peft take seconds to import; hosts never pay for them.
    from seshu_swarm.peer.donating.lora import finetune
    from seshu_swarm.training.loop import StepReport

    shown_at = 0.0
    with Bar("training") as bar:

        def on_step(report: StepReport) -> None:
            nonlocal shown_at
            speed = report.tokens_per_second
            bar.update(report.progress, loss=report.loss, tokens_per_second=speed)
            if time.monotonic() - shown_at > STATUS_SECONDS:
                shown_at = time.monotonic()
                watch.write_status(
                    settings.state_path, language=dealt.language, loss=report.loss, step=report.step
                )

        result = finetune(
            base,
            dealt.rows,
            folder,
            settings=lora_settings(settings, has_text=bool(dealt.documents)),
            documents=dealt.documents,
            resume_folder=_state_folder(base, dealt, settings),
            on_step=on_step,
            should_stop=watch.should_stop,
            before_step=watch.before_step,
        )
    if result is None:
        log.event("stopped", "stopped; the same command goes on from here")
        return None
    before, after = result.bits_per_byte_before, result.bits_per_byte_after
    text = f"held-out answers: {before:.3f} → {after:.3f} bits per byte"
    log.event("trained", text, before=before, after=after, resumed=False)
    return Tuned(result.folder, result.digest, dealt.language, result.num_rows)
