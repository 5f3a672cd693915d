"""The handle of a batch's remote sessions, as transformers' generation holds a cache.

Every row of the batch is one session of its own on the peers; rows are stepped together, so that
peers batch them. A row takes the tokens that are new to it and no others: neither padding, nor what
it has absorbed in an earlier call, nor anything after its end.

Shapes: B rows, L columns, M d_model.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor

from seshu_swarm.client.background import SwarmThread
from seshu_swarm.client.session import RemoteSession
from seshu_swarm.client.tasks import together
from seshu_swarm.errors import UsageError


@dataclass(eq=False)
class Row:
    """One text: its ids so far, and how many of them (or of embeddings) the peers absorbed."""

    session: RemoteSession
    ids: list[int] = field(default_factory=list)
    position: int = 0
    is_finished: bool = False


class RemoteCache:
    """`with model.session() as session: model.generate(ids, session=session)`, again and again."""

    # generate() asks: there is nothing here to compile for.
    is_compileable: ClassVar[bool] = False

    def __init__(self, thread: SwarmThread, step_seconds: float) -> None:
        self._thread, self._step_seconds = thread, step_seconds
        self._rows: list[Row] = []
        self._fault = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def texts(self) -> list[list[int]]:
        """Ids of every row, prompts and answers."""
        return [list(row.ids) for row in self._rows]

    @property
    def positions(self) -> list[int]:
        """Tokens of every row that its peers have absorbed: the newest one they have not."""
        return [row.position for row in self._rows]

    @property
    def peers(self) -> list[list[str]]:
        """Peer ids of every row's chain."""
        return [row.session.peers for row in self._rows]

    def close(self) -> None:
        """End all sessions at their peers; they cannot be continued."""
        rows, self._rows = self._rows, []
        self._fault = self._fault or "it is closed"
        if rows and not self._thread.is_closed:
            self._thread.run(self._closing(rows))

    async def _closing(self, rows: list[Row]) -> None:
        await asyncio.gather(*(self._thread.close_session(row.session) for row in rows))

    def joined_with(self, ids_BL: Tensor, mask_BL: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
        """The whole texts that end with these new ids, padded on the left, and their mask.

        Raises UsageError for another number of rows, and where nothing is new.
        """
        self._refuse_if_unusable(len(ids_BL))
        if any(row.position > len(row.ids) for row in self._rows):
            raise UsageError(
                "a session that was advanced by calls of the model",
                rule="generate() knows the tokens of its own calls only",
                way_out="use one way or the other with a session",
            )
        texts = self.texts or [[] for _ in ids_BL]
        new = [ids[mask != 0].tolist() for ids, mask in zip(ids_BL, mask_BL, strict=True)]
        texts = [text + more for text, more in zip(texts, new, strict=True)]
        if not all(texts):
            raise UsageError("a prompt without tokens", rule="a session begins with at least one")
        length = max(map(len, texts))
        padded = [[pad_id] * (length - len(text)) + text for text in texts]
        mask = [[0] * (length - len(text)) + [1] * len(text) for text in texts]
        return torch.tensor(padded), torch.tensor(mask)

    def begin(self, ids_BL: Tensor, mask_BL: Tensor) -> None:
        """A call of generate() with these whole texts; ids (B, 0) where embeddings were given."""
        self._open(len(ids_BL))
        for row, ids, mask in zip(self._rows, ids_BL, mask_BL[:, : ids_BL.shape[1]], strict=True):
            row.ids, row.is_finished = ids[mask != 0].tolist(), False

    def unheard(self, mask_BL: Tensor) -> Tensor:
        """The mask without what every row has absorbed, cut to the columns that somebody needs."""
        positions_B1 = torch.tensor(self.positions, device=mask_BL.device)[:, None]
        new_BL = (mask_BL != 0) & (mask_BL.cumsum(1) > positions_B1)
        first = int(new_BL.any(0).int().argmax())
        return new_BL[:, first:]

    @property
    def going_on(self) -> Tensor:
        """(B, 1): rows that have not ended; only their newest token is sent."""
        return torch.tensor([[not row.is_finished] for row in self._rows])

    def heard(self, ids_B: Tensor, finished_B: Tensor) -> None:
        """The token that was chosen for every row, and which rows end with it."""
        for row, token, ends in zip(self._rows, ids_B.tolist(), finished_B.tolist(), strict=True):
            if not row.is_finished:
                row.ids.append(token)
                row.is_finished = ends

    def step(self, hidden_BLM: Tensor, mask_BL: Tensor) -> Tensor:
        """The residual stream after the last block; 0 where the mask is.

        Raises PeerError. After a failure or an interruption rows may stand at different tokens, so
        the sessions are over.
        """
        self._open(len(hidden_BLM))
        rows = [
            (row, hidden[mask != 0][None])
            for row, hidden, mask in zip(self._rows, hidden_BLM, mask_BL, strict=True)
        ]
        self._fault = "a step of it failed or was interrupted"
        outputs = self._thread.run(_stepped([one for one in rows if one[1].shape[1]]))
        self._fault = ""
        output_BLM = torch.zeros_like(hidden_BLM)
        output_BLM[mask_BL != 0] = torch.cat(
            [outputs[row][0] for row in self._rows if row in outputs]
        )
        return output_BLM

    def _open(self, batch: int) -> None:
        self._refuse_if_unusable(batch)
        if not self._rows:
            self._rows = self._thread.run(self._opening(batch))

    async def _opening(self, batch: int) -> list[Row]:
        return [Row(self._thread.open_session(self._step_seconds)) for _ in range(batch)]

    def _refuse_if_unusable(self, batch: int) -> None:
        if self._fault:
            raise UsageError(
                f"this session cannot go on: {self._fault}",
                way_out="begin another one with model.session() and the whole text",
            )
        if self._rows and len(self._rows) != batch:
            raise UsageError(
                f"{batch} row(s) for a session of {len(self._rows)}",
                rule="each row continues its own text",
            )

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Refused: the states lie on the peers."""
        raise cannot_be_copied()

    def batch_select_indices(self, indices: Tensor) -> None:
        """Refused: the states lie on the peers."""
        raise cannot_be_copied()

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Refused: the states lie on the peers."""
        raise cannot_be_copied()


def cannot_be_copied() -> UsageError:
    """Why there are no beams here."""
    return UsageError(
        "beams need copies of a session",
        rule="the states of a session lie on its peers, which do not copy them",
        way_out="do_sample=True with num_return_sequences, or use_cache=False, which is slow",
    )


async def _stepped(rows: list[tuple[Row, Tensor]]) -> dict[Row, Tensor]:
    """All at once, each with its own tokens."""
    outputs = await together(row.session.step(hidden) for row, hidden in rows)
    for row, hidden in rows:
        row.position += hidden.shape[1]
    return {row: output for (row, _), output in zip(rows, outputs, strict=True)}
