"""From transformers' attention mask to rows that begin at their first token.

A recurrent state absorbs whatever precedes the text, so a row padded on the left is rolled until
its text comes first, runs with its length, and is rolled back. Nothing of the padding reaches a
state or a gradient; what is computed at its positions means nothing.

Shapes: B batch, L length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seshu_swarm.errors import UsageError


@dataclass(frozen=True, eq=False)
class Padding:
    """Where the text of each row lies: mask (B, L) is true there; starts, lengths (B,) int64."""

    mask: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def of_mask(cls, mask: Tensor | None, *, batch: int, length: int) -> Padding | None:
        """None where nothing is padded.

        A mask of more columns than the input, as after a cache, is read from its end. Raises
        UsageError for other sizes and for padding inside a text.
        """
        if mask is None:
            return None
        if mask.dim() != 2 or mask.shape[0] != batch or mask.shape[1] < length:
            raise UsageError(
                f"attention_mask {tuple(mask.shape)}",
                rule=f"({batch}, {length}), or more columns where a cache was given",
            )
        mask_BL = mask[:, mask.shape[1] - length :] != 0
        if bool(mask_BL.all()):
            return None
        lengths_B = mask_BL.sum(1)
        starts_B = mask_BL.int().argmax(1)
        _check_whole(mask_BL, starts_B, lengths_B)
        return cls(mask_BL, starts_B, lengths_B)

    def text_first(self, values_BLX: Tensor) -> Tensor:
        """Every row rolled until its text begins at 0."""
        return self._rolled(values_BLX, self.starts)

    def as_given(self, values_BLX: Tensor) -> Tensor:
        """The way back."""
        return self._rolled(values_BLX, -self.starts)

    def _rolled(self, values_BLX: Tensor, steps_B: Tensor) -> Tensor:
        if not bool(steps_B.any()):
            return values_BLX
        length = values_BLX.shape[1]
        places_BL = (torch.arange(length, device=steps_B.device) + steps_B[:, None]) % length
        return values_BLX.gather(1, places_BL[..., None].expand_as(values_BLX))

    def counted(self, labels_BL: Tensor, *, ignored: int) -> Tensor:
        """Labels without those at padding, and without each row's first after padding on the left.

        Nothing precedes that one which could predict it.
        """
        known_BL = self.mask.clone()
        known_BL[:, 1:] &= self.mask[:, :-1]
        return labels_BL.masked_fill(~known_BL, ignored)


def _check_whole(mask_BL: Tensor, starts_B: Tensor, lengths_B: Tensor) -> None:
    """The text of a row is one piece."""
    places_L = torch.arange(mask_BL.shape[1], device=mask_BL.device)
    after_BL = places_L - starts_B[:, None]
    whole_BL = (after_BL >= 0) & (after_BL < lengths_B[:, None])
    broken_B = (whole_BL != mask_BL).any(1)
    if bool(broken_B.any()):
        row = int(broken_B.int().argmax())
        raise UsageError(
            f"attention_mask of row {row} has a hole: padding inside the text",
            rule="each row is one text, padded before it or after it",
            way_out="give generate() the attention_mask: without one, each pad id is padding to it",
        )
