"""A model nobody trained: random weights, and greedy text that depends on the recurrent state.

The head is untied, or a random model would repeat the last token for ever; its states fade a
thousand times more slowly than a new model's. Otherwise a state that went wrong could go unseen.

Shapes: B prompts, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from seshu_swarm import checkpoints
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

CHUNK_TOKENS = 4_096
FIRST_BYTE_ID = 3
# Decays are exp(delta * -exp(A_log)): a token of the far past still has a say.
LESS_A_LOG = 6.0


@dataclass(frozen=True)
class RandomModel:
    """A checkpoint on disk and the same model in memory."""

    folder: Path
    revision: str
    whole: WholeModel

    @property
    def shape(self) -> MambaShape:
        return self.whole.shape

    @classmethod
    def write(
        cls, folder: Path, *, d_model: int, num_blocks: int, seed: int, parent: str | None = None
    ) -> RandomModel:
        """`parent`: the revision that it comes after. Raises SeshuError when the folder cannot be
        written."""
        torch.manual_seed(seed)
        shape = MambaShape(d_model=d_model, num_blocks=num_blocks, tie_embeddings=False)
        whole = WholeModel(shape).eval().requires_grad_(False)
        tensors = whole.checkpoint_tensors()
        for name in [name for name in tensors if name.endswith("A_log")]:
            tensors[name].sub_(LESS_A_LOG)
        revision = checkpoints.save_checkpoint(
            folder,
            shape=shape,
            tensors=tensors,
            about={"parent": parent, "round": 0},
            card="# A bench's model\n\nRandom weights.\n",
        )
        return cls(folder, revision, whole)

    def continuation(self, ids: list[int], num_tokens: int) -> list[int]:
        """Greedy tokens after `ids`, computed in this process."""
        return self.continuations([ids], num_tokens)[0]

    @torch.inference_mode()
    def continuations(self, prompts: Sequence[list[int]], num_tokens: int) -> list[list[int]]:
        """The same of several prompts of one length at once."""
        state = self.whole.zero_state(len(prompts))
        for chunk in torch.tensor(prompts).split(CHUNK_TOKENS, dim=1):
            logits_BV, state = self.whole.prefill(chunk, state)
        ids_B = logits_BV.argmax(dim=-1)
        columns = [ids_B]
        while len(columns) < num_tokens:
            logits_BV, state = self.whole.step(ids_B, state)
            ids_B = logits_BV.argmax(dim=-1)
            columns.append(ids_B)
        found: list[list[int]] = torch.stack(columns, dim=1).tolist()
        return found


def prompt(num_tokens: int, seed: int) -> list[int]:
    """Ids of random bytes."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(FIRST_BYTE_ID, 256, (num_tokens,), generator=generator).tolist()
    return ids
