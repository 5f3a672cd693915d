"""HubStore in a child process, and a small Hub on 127.0.0.1 for it: huggingface_hub reads its
environment when it is imported.

Run as a program, this file is that child: one JSON call per line in, one JSON answer per line
out. Its calls are about one repository, unless a reference names another.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seshu_swarm.errors import SeshuError
from seshu_swarm.stores import references
from seshu_swarm.stores.hub import HubStore
from seshu_swarm.stores.repository import HubRepository
from tests.stores.hub_server import TOKEN, HubServer

REPOSITORY = "donor/adapter"
DEADLINE_SECONDS = 20.0
# huggingface_hub 2.4 uploads large files with an argument that its HTTP library deprecates.
WARNINGS = ("-W", "error", "-W", "ignore:Use 'content=:DeprecationWarning")

Answer = dict[str, Any]


class Child:
    """A process with HubStore and an environment of its own. `cache` is its HF_HOME."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self.cache = folder / "hf_home"
        ours = {"HF_ENDPOINT": endpoint, "HF_HOME": str(self.cache)}
        switches = ("DISABLE_XET", "DISABLE_TELEMETRY", "DISABLE_PROGRESS_BARS")
        ours |= {f"HF_HUB_{name}": "1" for name in switches}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        proxies = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        self._process = subprocess.Popen(
            [sys.executable, *WARNINGS, "-m", "tests.stores.hub_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=kept | ours | proxies,
            text=True,
        )

    def call(self, what: str, **arguments: Any) -> Answer:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
        self._process.stdin.flush()
        answer: Answer = json.loads(self._process.stdout.readline())
        return answer

    def push(self, folder: Path, digest: str, token: str | None = TOKEN, **more: Any) -> Answer:
        return self.call("push", folder=str(folder), digest=digest, token=token, **more)

    def fetch(self, reference: str, into: Path, **more: Any) -> Answer:
        return self.call("fetch", reference=reference, into=str(into), **more)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE_SECONDS)
        self._process.stdout.close()


@contextmanager
def hub_and_child(folder: Path) -> Iterator[tuple[HubServer, Child]]:
    """A Hub that keeps its files in `folder`, and a child for which there is no other."""
    server = HubServer(folder / "server")
    child = Child(server.url, folder)
    try:
        yield server, child
    finally:
        child.close()
        server.close()


async def _answer(call: dict[str, Any]) -> Answer:
    store = HubStore(
        REPOSITORY,
        call.get("token"),
        **{key: call[key] for key in ("max_bytes", "seconds") if key in call},
    )
    if call["what"] == "push":
        return {"reference": str(await store.push(Path(call["folder"]), call["digest"]))}
    if call["what"] == "commit":
        writer = HubRepository(REPOSITORY, call["token"])
        files = {"b.txt": Path(call["file"])}
        return {"commit": writer.commit(files, "b", parent=call["parent"])}
    reference = references.parse(call["reference"])
    if call["what"] == "snapshot":
        from huggingface_hub import snapshot_download

        repository, commit = reference.repository
        cache = call["into"]
        return {"folder": snapshot_download(repository, revision=commit, cache_dir=cache)}
    manifest = await store.fetch(reference, Path(call["into"]), call.get("names"))
    return {"digest": manifest.digest}


def _serve_calls() -> None:
    for line in sys.stdin:
        began = time.monotonic()
        try:
            answer = asyncio.run(_answer(json.loads(line)))
        except SeshuError as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        answer["seconds"] = time.monotonic() - began
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve_calls()
