"""What is written down before anybody is told what follows from it: the books, and what each average takes in."""

from __future__ import annotations

import asyncio

from seshu_swarm.coordinator.conducting.commits import Commits
from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.journal import Entry, Journal
from seshu_swarm.coordinator.conducting.progress import Progress
from seshu_swarm.pipeline.conductor import Books


class Writing:
    """Of one plan."""

    def __init__(
        self, course: Course, progress: Progress, *, journal: Journal, commits: Commits
    ) -> None:
        self._course, self._progress = course, progress
        self._journal, self._commits = journal, commits
        self._written: Books | None = None

    async def write(self) -> None:
        """Until what is written is what is so."""
        groups = self._course.conductor.groups
        while True:
            books, commits = self._notable(), self._commits.new(groups)
            if books == self._written and not commits:
                return
            if books != self._written:
                entry = Entry(
                    books,
                    dict(self._course.numbers),
                    self._progress.num_tokens,
                    tuple(self._progress.curve),
                )
                await asyncio.to_thread(self._journal.write, entry)
                self._written = books
            await asyncio.to_thread(self._commits.write, commits)

    def _notable(self) -> Books:
        """A list that is not final is given up after a kill: its ids need not be known."""
        books = self._course.conductor.books
        ids = books.ids if books.is_final else frozenset()
        return Books(books.step, ids, books.is_final, books.versions)
