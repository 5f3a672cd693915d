"""The ends of a model: embeddings, final norm and head. Clients and trainers hold them.

Shapes: B batch, L length, M d_model, V vocab_size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from seshu_swarm.mamba.decoding import project
from seshu_swarm.mamba.norm import RMSNorm
from seshu_swarm.mamba.shape import MambaShape

EMBEDDING_STD = 0.02


class Ends(nn.Module):
    """`embed` before the first block, `logits` after the last one."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = nn.Embedding(shape.vocab_size, shape.d_model)
        self.norm_f = RMSNorm(shape.d_model, shape.norm_epsilon)
        nn.init.normal_(self.embeddings.weight, std=EMBEDDING_STD)
        self.lm_head: nn.Linear | None = None
        if not shape.tie_embeddings:
            self.lm_head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
            nn.init.normal_(self.lm_head.weight, std=EMBEDDING_STD)

    def embed(self, ids_BL: Tensor) -> Tensor:
        """Token ids (int64) → residual stream (batch, length, d_model)."""
        hidden_BLM: Tensor = self.embeddings(ids_BL)
        return hidden_BLM

    def logits(self, hidden_BLM: Tensor) -> Tensor:
        """Residual stream after the last block → (batch, length, vocab_size)."""
        head = self.embeddings if self.lm_head is None else self.lm_head
        normed_BLM = self.norm_f(hidden_BLM)
        if normed_BLM.shape[1] == 1:
            logits_BV = project(normed_BLM[:, 0], head.weight)
            if logits_BV is not None:
                return logits_BV[:, None]
        return functional.linear(normed_BLM, head.weight)

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """Parameters under their global names; a tied head is not listed; no copies."""
        parameters = dict(self.named_parameters())
        return {
            name: parameters[name.removeprefix("backbone.")] for name in self.shape.ends_tensors()
        }
