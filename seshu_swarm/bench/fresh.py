"""Measuring in a fresh process, whose memory no earlier measurement has touched.

The asked process answers with one line of JSON, and ends when the one that asked is gone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from seshu_swarm.errors import ResourceError

Fields = dict[str, Any]


def ask(module: str, task: Fields, what: str) -> Fields:
    """What `python -m module TASK` answers; `what` names the work for people.

    Raises ResourceError when the child ends early, for want of memory above all.
    """
    command = [sys.executable, "-m", module, json.dumps(task)]
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
    answer: Fields = json.loads(said.splitlines()[-1])
    return answer


def asked(arguments: list[str]) -> Fields:
    """In the child: its task. From here on it ends with the one that asked."""
    # The asking process tells people that it was interrupted; this one just ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_input, daemon=True).start()
    task: Fields = json.loads(arguments[0])
    return task


def answer(found: Fields) -> None:
    print(json.dumps(found), flush=True)


def _end_with_input() -> None:
    """End this process when standard input ends: when the one that asked is gone."""
    # Not sys.stdin, whose lock a daemon thread would hold when this process ends by itself.
    while os.read(0, 1):
        continue
    os._exit(1)
