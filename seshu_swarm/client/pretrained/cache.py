"""The handle of a batch's remote sessions, as transformers' generation holds a cache.

Every row of the batch is one session of its own on the peers; rows are stepped together, so that
peers batch them. A row takes the tokens that are new to it and no others: neither padding, nor what
it has absorbed in an earlier call, nor anything after its end.

Shapes: B rows, L columns, M d_model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor

from seshu_swarm.client.pretrained.background import SwarmThread
from seshu_swarm.client.remote.tasks import together
from seshu_swarm.client.remote.token_session import Roll, TokenSession, log_roll
from seshu_swarm.errors import UsageError


@dataclass(eq=False)
class Row:
    """One text: its ids so far, and how many of them (or of embeddings) the peers absorbed."""

    session: TokenSession
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
        self.rolls: list[Roll] = []  # rows that went on with another revision, oldest first
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

    @property
    def revisions(self) -> list[str]:
        """What every row's newest token was computed by."""
        return [row.session.revision for row in self._rows]

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

    def step(self, hidden_BLM: Tensor, mask_BL: Tensor, ids_BL: Tensor | None = None) -> Tensor:
        """The residual stream after the last block; 0 where the mask is. `logits` reads it.

        `ids_BL`: what the hidden states are embeddings of, where they are of tokens: only then can a row
        outlive its revision. Raises PeerError. After a failure or an interruption rows may stand at different tokens, so
        the sessions are over.
        """
        self._open(len(hidden_BLM))
        rows = [
            (row, hidden[mask != 0][None], None if ids_BL is None else ids_BL[index][mask != 0])
            for index, (row, hidden, mask) in enumerate(
                zip(self._rows, hidden_BLM, mask_BL, strict=True)
            )
        ]
        self._fault = "a step of it failed or was interrupted"
        outputs = self._thread.run(_stepped([one for one in rows if one[1].shape[1]]))
        self._fault = ""
        output_BLM = torch.zeros_like(hidden_BLM)
        output_BLM[mask_BL != 0] = torch.cat(
            [outputs[row][0] for row in self._rows if row in outputs]
        )
        return output_BLM

    def logits(self, hidden_BLM: Tensor, own: Callable[[Tensor], Tensor]) -> Tensor:
        """By the head of every row's revision; `own` is the model's, for rows that are still on its."""
        if not self.rolls:
            return own(hidden_BLM)
        sent_BLM = hidden_BLM.detach().to("cpu", torch.float32)
        logits_1LV = [
            row.session.model.logits(sent[None]).to(hidden)
            if row.session.rolls
            else own(hidden[None])
            for row, hidden, sent in zip(self._rows, hidden_BLM, sent_BLM, strict=True)
        ]
        return torch.cat(logits_1LV)

    def _open(self, batch: int) -> None:
        self._refuse_if_unusable(batch)
        if not self._rows:
            self._rows = self._thread.run(self._opening(batch))

    async def _opening(self, batch: int) -> list[Row]:
        opened = (self._thread.open_session(self._step_seconds, self._rolled) for _ in range(batch))
        return [Row(session) for session in opened]

    def _rolled(self, roll: Roll) -> None:
        self.rolls.append(roll)
        log_roll(roll)

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


async def _stepped(rows: list[tuple[Row, Tensor, Tensor | None]]) -> dict[Row, Tensor]:
    """All at once, each with its own tokens."""
    outputs = await together(_step(*one) for one in rows)
    for row, hidden_1LM, _ in rows:
        row.position += hidden_1LM.shape[1]
    return {row: output for (row, *_), output in zip(rows, outputs, strict=True)}


async def _step(row: Row, hidden_1LM: Tensor, ids_L: Tensor | None) -> Tensor:
    session = row.session
    if ids_L is None:
        return await session.step_hidden(hidden_1LM)
    return await session.step(ids_L.tolist(), None if session.rolls else hidden_1LM)
