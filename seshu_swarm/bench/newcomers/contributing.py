"""A donor's first contribution on loopback: seconds from its start, and the bytes it fetched."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.program.children import Child, Children, Event

COORDINATOR, PEER = "seshu_swarm.coordinator", "seshu_swarm.peer"
LANGUAGE = "hi"
OPEN_SECONDS, TRAIN_SECONDS, START_SECONDS = 300.0, 1_800.0, 120.0


@dataclass(frozen=True)
class Contribution:
    """What was fetched, by what it is, and how long it took until the adapter was handed in."""

    fetched_bytes: Mapping[str, int]
    adapter_bytes: int
    seconds: float


async def contribute(
    folder: Path, *, d_model: int, num_blocks: int, max_steps: int
) -> Contribution:
    """A run of random weights, a donor that trains `max_steps` steps. Raises SeshuError."""
    children = Children(folder / "logs", _unheard)
    try:
        link = await _open_run(children, folder / "run", d_model, num_blocks)
        began = time.perf_counter()
        arguments = ["finetune", "--join", link, "--host", "127.0.0.1", "--language", LANGUAGE]
        arguments += ["--max-steps", str(max_steps), "--state-dir", str(folder / "donor")]
        donor = await children.start("donor", PEER, arguments)
        await donor.wait_for("handed-in", seconds=TRAIN_SECONDS)
        seconds = time.perf_counter() - began
    finally:
        await children.end()
    return _contribution(folder / "donor", seconds)


async def _open_run(children: Children, run: Path, d_model: int, num_blocks: int) -> str:
    """The join link of a new run."""
    where = ["--state-dir", str(run)]
    opening = ["open", *where, "--run-id", "first", "--languages", LANGUAGE]
    await _to_its_end(await children.start("open", COORDINATOR, opening))
    shape = ["--d-model", str(d_model), "--num-blocks", str(num_blocks), "--max-steps", "0"]
    await _to_its_end(await children.start("pretrain", COORDINATOR, ["pretrain", *where, *shape]))
    running = ["run", *where, "--host", "127.0.0.1", "--round-seconds", str(TRAIN_SECONDS)]
    coordinator = await children.start("coordinator", COORDINATOR, running)
    return str((await coordinator.wait_for("ready", seconds=START_SECONDS))["link"])


async def _to_its_end(child: Child) -> None:
    await child.wait_for_end(seconds=OPEN_SECONDS)


def _contribution(state_dir: Path, seconds: float) -> Contribution:
    """What lies in the donor's folder: it was empty before."""
    fetched: dict[str, int] = {}
    for package in sorted((state_dir / "packages").iterdir()):
        kind = "checkpoint" if (package / "config.json").exists() else "text"
        fetched[kind] = fetched.get(kind, 0) + _bytes_in(package)
    return Contribution(fetched, _bytes_in(state_dir / "adapters"), seconds)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _unheard(name: str, event: Event) -> None:
    """Children are listened to by those who wait for them."""
