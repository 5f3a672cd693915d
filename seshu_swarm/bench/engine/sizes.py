"""Which models, batches and lengths the bench measures. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.mamba.shape import MambaShape


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One model with one batch. `suffix` ends the names of its results."""

    shape: MambaShape
    batch: int = 1
    length_tokens: int
    suffix: str = ""

    @property
    def num_tokens(self) -> int:
        return self.batch * self.length_tokens

    @property
    def label(self) -> str:
        shape = self.shape
        return f"{shape.d_model}x{shape.num_blocks}, {self.batch} x {self.length_tokens} tokens"


# Stock transformers, with its own scan and with mambapy's.
FALLBACK, MAMBAPY = "transformers", "mambapy"
SMALL = MambaShape(d_model=256, num_blocks=4)
WIDE = MambaShape(d_model=768, num_blocks=2)
# mamba-130m, with its vocabulary.
LARGE = MambaShape(d_model=768, num_blocks=24, vocab_size=50_280)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The defaults are the design's figures; the first training workload is also measured for
    memory, and against transformers' fallback by one step of most of a minute."""

    training: tuple[Workload, ...] = (
        Workload(shape=SMALL, batch=4, length_tokens=256),
        Workload(shape=WIDE, length_tokens=256, suffix="_768x2"),
    )
    prefill: tuple[Workload, ...] = (
        Workload(shape=SMALL, length_tokens=1024, suffix="_256x4"),
        Workload(shape=LARGE, length_tokens=512),
    )
    decode: tuple[Workload, ...] = (Workload(shape=LARGE, length_tokens=32),)
    growth_shape: MambaShape = SMALL
    growth_lengths_tokens: tuple[int, ...] = (1024, 4096, 16_384)
    gemm_size: int = 3072
    read_bytes: int = 256 << 20
    seconds: float = 8.0  # that each engine gets for each measurement
    stock: tuple[str, ...] = (FALLBACK, MAMBAPY)  # what ours is compared with
