"""One engine measured in a fresh process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seshu_swarm.bench import fresh


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training step of `engine`, repeated for `seconds` (at least once); and inference if asked."""

    engine: str
    shape: dict[str, Any]  # fields of a MambaShape
    batch: int
    length_tokens: int
    threads: int
    seconds: float = 0.0
    with_inference: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds are the best of their repeats. `peak_bytes` is what the first training step added to
    the process, None where the system does not tell; `past_bytes` what a session keeps."""

    train_seconds: float
    train_repeats: int
    peak_bytes: int | None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    past_bytes: int | None = None


def measure_in_child(task: Task) -> Measured:
    """Raises ResourceError when the child ends early."""
    what = f"{task.engine} on {task.length_tokens} tokens"
    return fresh.ask(__name__, task, Measured, what)


if __name__ == "__main__":
    asked = fresh.asked(Task)
    from seshu_swarm.bench.engine.alone import measure

    fresh.answer(measure(asked))
