"""How an adapter is trained: the donor's flags, checked, as training takes them. Pure; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.adapters.rules import TARGETS, AdapterRules
from seshu_swarm.errors import UsageError
from seshu_swarm.peer.config import FinetuneConfig
from seshu_swarm.training.schedule import Budget, Schedule

MAX_SCALE = AdapterRules().max_scale
MAX_ROW_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """How an adapter is trained. Raises UsageError.

    `scale` is alpha / rank, the factor of ΔW.
    `max_tokens` cuts a row, `batch_tokens` bounds a microbatch, of which `accumulation` make a
    step. Of the rows `held_out_share` is kept for the check, at most `max_held_out_rows`.
    `replay_share` of the steps see running text, where there is any.
    """

    rank: int = FinetuneConfig.rank
    scale: float = 2.0
    targets: tuple[str, ...] = FinetuneConfig.targets
    learning_rate: float = FinetuneConfig.learning_rate
    warmup_fraction: float = FinetuneConfig.warmup_fraction
    weight_decay: float = 0.0
    max_steps: int = FinetuneConfig.max_steps
    max_seconds: float = FinetuneConfig.max_seconds
    held_out_share: float = 0.1
    max_held_out_rows: int = 200
    max_tokens: int = MAX_ROW_TOKENS
    batch_tokens: int = FinetuneConfig.batch_tokens
    accumulation: int = FinetuneConfig.accumulate
    replay_share: float = FinetuneConfig.replay_share
    seed: int = FinetuneConfig.seed
    state_period_seconds: float = FinetuneConfig.save_seconds

    def __post_init__(self) -> None:
        if not (self.rank >= 1 and 0 < self.scale <= MAX_SCALE):
            raise UsageError(
                f"rank {self.rank} with scale {self.scale}",
                rule=f"a rank from 1, a scale of at most {MAX_SCALE:g}: coordinators refuse more",
            )
        if not self.targets or set(self.targets) - set(TARGETS):
            raise UsageError(
                f"LoRA on {', '.join(self.targets) or 'nothing'}",
                rule=f"one or more of {', '.join(TARGETS)}",
            )
        if not (0 < self.held_out_share < 1 and 0 <= self.replay_share < 1):
            raise UsageError(
                f"held-out share {self.held_out_share} and replay share {self.replay_share}",
                rule="shares between 0 and 1",
            )
        if self.batch_tokens < self.max_tokens:
            raise UsageError(
                f"{self.batch_tokens} tokens in a batch and {self.max_tokens} in a row",
                rule="a batch holds at least one whole row",
            )
        # These refuse what is theirs.
        _ = self.schedule, self.budget

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            learning_rate=self.learning_rate,
            warmup_fraction=self.warmup_fraction,
            weight_decay=self.weight_decay,
            accumulation=self.accumulation,
        )

    @property
    def budget(self) -> Budget:
        return Budget(max_steps=self.max_steps, max_seconds=self.max_seconds)


def lora_settings(settings: FinetuneConfig, *, has_text: bool) -> LoraSettings:
    """From flags; without running text nothing of it is replayed. Raises UsageError."""
    return LoraSettings(
        rank=settings.rank,
        targets=settings.targets,
        learning_rate=settings.learning_rate,
        warmup_fraction=settings.warmup_fraction,
        max_steps=settings.max_steps,
        max_seconds=settings.max_seconds,
        max_tokens=min(MAX_ROW_TOKENS, settings.batch_tokens),
        batch_tokens=settings.batch_tokens,
        accumulation=settings.accumulate,
        state_period_seconds=settings.save_seconds,
        replay_share=settings.replay_share if has_text else 0.0,
        seed=settings.seed,
    )
