"""A model nobody trained: random weights, and greedy text that depends on the recurrent state.

The head is untied, or a random model would repeat the last token for ever; its states fade a
thousand times more slowly than a new model's. Otherwise a state that went wrong could go unseen.
"""

from __future__ import annotations

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
    whole: WholeModel

    @property
    def shape(self) -> MambaShape:
        return self.whole.shape

    @classmethod
    def write(cls, folder: Path, *, d_model: int, num_blocks: int, seed: int) -> RandomModel:
        """Raises SeshuError when the folder cannot be written."""
        torch.manual_seed(seed)
        shape = MambaShape(d_model=d_model, num_blocks=num_blocks, tie_embeddings=False)
        whole = WholeModel(shape).eval().requires_grad_(False)
        tensors = whole.checkpoint_tensors()
        for name in [name for name in tensors if name.endswith("A_log")]:
            tensors[name].sub_(LESS_A_LOG)
        checkpoints.save_checkpoint(
            folder,
            shape=shape,
            tensors=tensors,
            about={"parent": None, "round": 0},
            card="# A bench's model\n\nRandom weights.\n",
        )
        return cls(folder, whole)

    @torch.inference_mode()
    def continuation(self, ids: list[int], num_tokens: int) -> list[int]:
        """Greedy tokens after `ids`, computed in this process."""
        state = self.whole.zero_state()
        for chunk in torch.tensor([ids]).split(CHUNK_TOKENS, dim=1):
            logits_BV, state = self.whole.prefill(chunk, state)
        tokens = [int(logits_BV[0].argmax())]
        while len(tokens) < num_tokens:
            logits_BV, state = self.whole.step(torch.tensor(tokens[-1:]), state)
            tokens.append(int(logits_BV[0].argmax()))
        return tokens


def prompt(num_tokens: int, seed: int) -> list[int]:
    """Ids of random bytes."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(FIRST_BYTE_ID, 256, (num_tokens,), generator=generator).tolist()
    return ids
