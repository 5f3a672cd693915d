"""A process that has imported a program and forks for each start: importing takes seconds of a core.

Who connects to its socket and sends a line of JSON (`arguments`, `log`) has a child: what that prints
comes back over the connection, its process id first. The child is a session of its own, and is the
program as if it had been started anew. It must be forked before any thread computes.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys

from seshu_swarm.bench.pipeline.config import ForkingConfig
from seshu_swarm.program import log


def run(settings: ForkingConfig) -> int:
    for name in (*settings.imports, settings.program):
        importlib.import_module(name)
    # What is shared stays shared: the collector would write into every object.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for these children
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(settings.socket)
        server.listen()
        log.event("ready", "ready")
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _become(connection, settings.program)
            connection.close()


def _become(connection: socket.socket, program: str) -> None:
    """The program, until it ends; never comes back."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with connection.makefile("r", encoding="utf-8") as reader:
            asked = json.loads(reader.readline())
        os.dup2(connection.fileno(), sys.stdout.fileno())
        with open(asked["log"], "ab") as errors:
            os.dup2(errors.fileno(), sys.stderr.fileno())
        connection.close()
        log.event("forked", "", pid=os.getpid())
        sys.argv[1:] = asked["arguments"]
        code = importlib.import_module(program).main()
    finally:
        sys.stderr.flush()
        os._exit(code)
