"""Releases of a run: papers beside every published checkpoint, and all of it on the Hub in time.

Publishing in the swarm never waits for the Hub. What was pushed is noted in the ledger; a push that
fails is made again later, in the order of the rounds, from wherever it was cut off. Pushing happens
in a process that can be ended: no upload outlives the coordinator.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seshu_swarm import packages
from seshu_swarm.coordinator.releasing.papers import has_papers, write_curves, write_papers
from seshu_swarm.coordinator.releasing.reports import read_reports, reports_until
from seshu_swarm.coordinator.releasing.withdrawn import tag_of, withdrawn_until, write_withdrawn
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage, Revision
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import DeadlineError, ForkError, PackageError, SeshuError
from seshu_swarm.program import log
from seshu_swarm.program.children import Child, Children
from seshu_swarm.program.running import Stop

logger = logging.getLogger(__name__)

PUSHER = "seshu_swarm.coordinator.releasing"
RETRY_SECONDS = 300.0
# Before the first byte, and after the last.
SETTLING_SECONDS = 300.0
MIN_BYTES_PER_SECOND = 50_000


@dataclass(frozen=True)
class Pushed:
    """A release that is on the Hub."""

    tag: str
    revision: str
    commit: str


class Releases:
    """`repository` is OWNER/NAME on the Hub, or None: then releases stay in the swarm."""

    def __init__(
        self,
        folder: RunFolder,
        ledger: Ledger,
        *,
        repository: str | None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._folder, self._ledger = folder, ledger
        self._repository, self._retry_seconds = repository, retry_seconds
        self._news, self._writing = asyncio.Event(), asyncio.Lock()

    async def release(self) -> None:
        """Call when a round has ended: papers and curves, and a word to `keep_pushing`.

        What cannot be written, because the disk is full or a report is broken, is said; the round
        stands without it, and the next call writes it.
        """
        try:
            async with self._writing:
                await asyncio.to_thread(self._write)
        except SeshuError as error:
            log.event("papers-failed", f"papers not written: {error}", reason=str(error))
        self._news.set()

    def _write(self) -> None:
        reports = read_reports(self._folder.reports)
        write_curves(self._folder.path, str(self._ledger.fact("run_id")), reports)
        for last, report in enumerate(reports):
            # A coordinator that was killed in between has left a round without papers.
            if report["state"] == "published" and self._lacks_papers(report, reports):
                until = reports[: last + 1]
                write_papers(self._folder, self._ledger, until, repository=self._repository)

    def _lacks_papers(
        self, report: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]
    ) -> bool:
        folder = self._folder.package(report["revision"])
        if not (folder / packages.MANIFEST).is_file():
            return False
        return report is reports[-1] or not has_papers(folder)

    async def keep_pushing(self, stop: Stop) -> None:
        """Push what is not on the Hub yet, again and again, until stopped. Raises ForkError.

        Begins with the papers that a killed coordinator left unwritten.
        """
        await self.release()
        while self._repository and not stop.is_set():
            self._news.clear()
            try:
                await self.push_all(self._repository)
            except ForkError:
                raise
            except SeshuError as error:
                seconds = self._retry_seconds
                text = f"not on the Hub yet, again in {seconds:.0f} s: {error}"
                log.event("push-failed", text, reason=str(error))
            await self._wait(stop)

    async def _wait(self, stop: Stop) -> None:
        """Until a round was released, the time to try again has come, or all is over."""
        waits = {asyncio.create_task(self._news.wait()), asyncio.create_task(stop.wait())}
        _, left = await asyncio.wait(
            waits, timeout=self._retry_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for wait in left:
            wait.cancel()

    async def push_all(self, repository: str) -> None:
        """Push every release after the last that the ledger knows to be on the Hub, oldest first.

        What was withdrawn is never pushed, and nothing behind what is there: the head would go back.
        Raises ForkError where another coordinator pushes there, DeadlineError, SeshuError.
        """
        line = Lineage(self._ledger.database).all()
        for one in _after(line, {done.tag for done in pushed(self._ledger, repository)}):
            if (tag := tag_of(one)) and await self._is_ready(one, tag, repository):
                commit = await self._push(repository, one, tag)
                note(self._ledger, repository, Pushed(tag, one.revision, commit))
                log.event("on-the-hub", f"{tag} is {repository}@{commit}", tag=tag, commit=commit)

    async def _is_ready(self, one: Revision, tag: str, repository: str) -> bool:
        """Whether a release may be pushed, its papers written; says why not."""
        if one.withdrawn or not (self._folder.package(one.revision) / packages.MANIFEST).is_file():
            return False
        try:
            async with self._writing:
                await asyncio.to_thread(self._write_again, one, repository)
        except PackageError as error:
            text = f"{tag} is not pushed: {error}"
            log.event("release-skipped", text, tag=tag, reason=str(error))
            return False
        return True

    def _write_again(self, one: Revision, repository: str) -> None:
        """The repository that a card names may be another than it was when the round ended."""
        if one.kind is Kind.ROUND:
            until = reports_until(self._folder.reports, one.round)
            write_papers(self._folder, self._ledger, until, repository=repository)
        else:
            write_withdrawn(self._folder, self._ledger, one.revision)

    async def _push(self, repository: str, one: Revision, tag: str) -> str:
        folder = self._folder.package(one.revision)
        arguments = ["push", str(folder), "--repository", repository, "--tag", tag]
        for last in pushed(self._ledger, repository)[-1:]:
            arguments += ["--after-revision", last.revision, "--after-commit", last.commit]
        if gone := withdrawn_until(self._ledger, one.revision):
            arguments += ["--withdrawn", ",".join(each.revision for each in gone)]
        size = packages.read_manifest(folder).size_bytes
        seconds = SETTLING_SECONDS + size / MIN_BYTES_PER_SECOND
        children = Children(self._folder.logs, lambda name, event: None)
        try:
            child = await children.start("pusher", PUSHER, arguments)
            return await _commit_of(child, seconds)
        finally:
            await children.end()


def _after(line: Sequence[Revision], tags: set[str]) -> Sequence[Revision]:
    """What follows the last revision whose tag is on the Hub."""
    places = [i + 1 for i, one in enumerate(line) if tag_of(one) in tags]
    return line[max(places, default=0) :]


async def _commit_of(child: Child, seconds: float) -> str:
    try:
        event = await child.wait_for("pushed", seconds=seconds)
    except SeshuError as error:
        if error.exit_code == ForkError.exit_code:
            raise ForkError(error.what, rule=error.rule, way_out=error.way_out) from error
        if child.process.returncode is None:
            raise DeadlineError(
                f"the push was not done after {seconds:.0f} s",
                rule=f"at least {MIN_BYTES_PER_SECOND} bytes per second",
                way_out="it goes on from what arrived, in a while",
            ) from error
        raise
    return str(event["commit"])


def pushed(ledger: Ledger, repository: str) -> list[Pushed]:
    """What the ledger knows to be on the Hub, oldest first."""
    return [Pushed(**one) for one in ledger.fact(f"hub {repository}") or []]


def note(ledger: Ledger, repository: str, one: Pushed) -> None:
    known = [vars(found) for found in pushed(ledger, repository)]
    ledger.set_fact(f"hub {repository}", [*known, vars(one)])
