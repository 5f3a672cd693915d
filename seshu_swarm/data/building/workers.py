"""Tasks in processes of their own. Which process does which task changes nothing in what it does.

Processes are spawned, not forked: threads of the caller would not survive a fork. They end when the
caller is gone, however it ended. Knows no tasks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Self, TypeVar

from seshu_swarm.errors import ResourceError

Task = TypeVar("Task")
PARENT_SECONDS = 0.5
# Tasks that are handed out before others end, per process: enough that none waits.
AHEAD = 2


class Workers:
    """Processes for all stages of a build; none where there is one worker."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def results_of(self, do: Callable[[Task], int], tasks: Sequence[Task]) -> Iterator[int]:
        """`do` of each task as they end; the first error ends all.

        Raises what `do` raises, and ResourceError where a process was killed.
        """
        if self._num_workers == 1 or len(tasks) < 2:
            for task in tasks:
                yield do(task)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._num_workers,
                mp_context=get_context("spawn"),
                initializer=_begin,
                initargs=(os.getpid(),),
            )
        try:
            yield from _drawn(self._pool, do, tasks, ahead=self._num_workers * AHEAD)
        except BrokenProcessPool:
            raise ResourceError(
                "a process of the build was killed",
                rule="mostly, memory ran out",
                way_out="take fewer with --workers; the same command goes on from here",
            ) from None


def _drawn(
    pool: ProcessPoolExecutor, do: Callable[[Task], int], tasks: Sequence[Task], *, ahead: int
) -> Iterator[int]:
    waiting, running = list(reversed(tasks)), set[Future[int]]()
    while waiting or running:
        while waiting and len(running) < ahead:
            running.add(pool.submit(do, waiting.pop()))
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _begin(parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)
