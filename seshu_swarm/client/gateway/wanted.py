"""What one choice asks for, after every check. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One choice: continue `prompt_ids` (at least one) by at most `max_new_tokens`.

    `num_top`: how many alternatives are reported for each token; None: no log-probabilities.
    `echo`: the prompt's tokens come first, scored too where scores are wanted.
    """

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] = ()
    ignore_end: bool = False
    num_top: int | None = None
    echo: bool = False

    @property
    def scores_prompt(self) -> bool:
        return self.echo and self.num_top is not None

    @property
    def most_tokens(self) -> int:
        """Tokens that the choice can use at most."""
        return len(self.prompt_ids) + self.max_new_tokens
