"""Measuring in a fresh process, whose memory no earlier measurement has touched.

The task is a dataclass, maybe with others in it, and so is the answer: each goes as a line of JSON.
The asked process ends when the one that asked is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TypeVar

from pydantic import TypeAdapter

from seshu_swarm.errors import ResourceError

T = TypeVar("T")


def ask(module: str, task: object, kind: type[T], what: str) -> T:
    """The `kind` that `python -m module TASK` answers with; `what` names the work for people.

    Raises ResourceError when the child ends early, for want of memory above all.
    """
    command = [sys.executable, "-m", module, written(task)]
    # Its standard input stays open for as long as this process lives.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.read()
            code = process.wait()
        finally:
            process.kill()
    if code != 0:
        raise ResourceError(
            f"measuring {what} ended with code {code}",
            rule="a negative code is a signal; -9 mostly means that memory ran out",
            way_out="close other programs and run the bench again",
        )
    return read(said.splitlines()[-1], kind)


def asked(kind: type[T]) -> T:
    """In the child: its task. From here on it ends with the one that asked."""
    # The asking process tells people that it was interrupted; this one just ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_input, daemon=True).start()
    return read(sys.argv[1], kind)


def answer(found: object) -> None:
    print(written(found), flush=True)


def written(one: object) -> str:
    """A task or an answer as a line of JSON."""
    return TypeAdapter(type(one)).dump_json(one).decode()


def read(line: str, kind: type[T]) -> T:
    """What `written` wrote."""
    return TypeAdapter(kind).validate_json(line)


def _end_with_input() -> None:
    """End this process when standard input ends: when the one that asked is gone."""
    # Not sys.stdin, whose lock a daemon thread would hold when this process ends by itself.
    while os.read(0, 1):
        continue
    os._exit(1)
