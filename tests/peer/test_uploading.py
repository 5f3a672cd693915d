"""A donor's push to the Hub: a process of its own, against a small Hub on 127.0.0.1."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import psutil
import pytest

from seshu_swarm import packages
from seshu_swarm.errors import DeadlineError, PeerLostError
from seshu_swarm.peer.donating.uploading import upload
from seshu_swarm.program.running import Stop
from tests.stores.hub_server import TOKEN, HubServer

pytestmark = pytest.mark.swarm

REPOSITORY = "donor/adapter"


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes(b'{"r": 8}')
    packages.seal(folder, "adapter", ["adapter_config.json"], {})
    return folder


def test_an_adapter_is_pushed_and_pinned(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HubServer(tmp_path / "hub")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    found = asyncio.run(upload(REPOSITORY, adapter, logs=tmp_path / "logs", stop=Stop()))
    hub.close()
    assert found is not None and found.scheme == "hf"
    assert found.digest == packages.read_manifest(adapter).digest
    assert found.repository[0] == REPOSITORY and len(found.repository[1]) == 40


def test_what_the_hub_said_is_what_the_donor_reads(
    adapter: Path, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port}")
    with pytest.raises(PeerLostError, match="the Hub did not "):
        asyncio.run(upload(REPOSITORY, adapter, logs=tmp_path / "logs", stop=Stop()))


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "too slow"])
def test_a_hub_that_is_silent_holds_nobody(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    async def push() -> object:
        stop = Stop()
        if is_stopped:
            asyncio.get_running_loop().call_later(3.0, stop.set)
        seconds = 60.0 if is_stopped else 3.0
        logs = tmp_path / "logs"
        return await upload(REPOSITORY, adapter, logs=logs, stop=stop, settling_seconds=seconds)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        before, began = set(psutil.Process().children()), time.monotonic()
        if is_stopped:
            assert asyncio.run(push()) is None
        else:
            with pytest.raises(DeadlineError, match="not done after 3 s"):
                asyncio.run(push())
        assert time.monotonic() - began < 10
    left = set(psutil.Process().children()) - before
    assert not [one for one in left if one.status() != psutil.STATUS_ZOMBIE]
