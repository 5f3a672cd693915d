"""Settings of a process that trains alone, and of one that forks peers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, setting


@dataclass(frozen=True, kw_only=True)
class AloneConfig(OutputConfig):
    """One process that trains the whole model; the schedule is that of a plan of `num_steps`."""

    base: str = setting("", "Folder of the checkpoint to begin from.")
    data: str = setting("", "File of running text.")
    language: str = setting("hi", "Its language.")
    bounds: tuple[int, ...] = setting((), "Boundaries of the spans that are clipped alone, from 0.")
    microbatches: int = setting(4, "Microbatches of a step.")
    batch_size: int = setting(4, "Sequences of a microbatch.")
    length: int = setting(256, "Bytes of a sequence.")
    learning_rate: float = setting(1e-3, "Peak learning rate.")
    num_steps: int = setting(1_000, "Steps of the schedule.")
    seed: int = setting(0, "Seed of the order of the text.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.base and self.data and len(self.bounds) >= 2):
            raise UsageError("--base, --data and --bounds are needed", way_out="give all three")


@dataclass(frozen=True, kw_only=True)
class ForkingConfig(OutputConfig):
    """A process that has imported a program, and forks for each of its starts."""

    socket: str = setting("", "Path of the socket to listen on.")
    program: str = setting("seshu_swarm.peer.__main__", "Module whose `main` is run.")
    imports: tuple[str, ...] = setting((), "Modules to import beforehand.")
