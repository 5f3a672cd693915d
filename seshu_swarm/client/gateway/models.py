"""The revision that answers new requests: the run's newest one, as soon as peers serve all of it.

A request keeps the model it began with. Knows no HTTP.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

from seshu_swarm.client.chain.revisions import missing_blocks
from seshu_swarm.client.gateway.refusals import No, RefusedError
from seshu_swarm.client.remote.model import RemoteModel
from seshu_swarm.records.kinds import RunRecord
from seshu_swarm.run.joining import Joined

logger = logging.getLogger(__name__)

SHORT = 12  # digits of a revision in a model's name


class Models:
    """`current` serves; `refresh` looks for a newer revision and for blocks without a peer."""

    def __init__(self, joined: Joined, model: RemoteModel) -> None:
        self._joined = joined
        self.current, self.since = model, int(time.time())
        self.missing_blocks: tuple[int, ...] = ()

    @classmethod
    async def connect(cls, joined: Joined) -> Models:
        """The run's newest revision, served or not. Raises PeerError and PackageError."""
        models = cls(joined, await RemoteModel.connect(joined))
        models.missing_blocks = await missing_blocks(joined, models.current.revision)
        return models

    @property
    def run(self) -> RunRecord:
        """The coordinator's word on the run, as of the present revision."""
        return self._joined.run

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def name(self) -> str:
        """What answers call the model: the run and the beginning of its revision."""
        return f"{self.run_id}@{self.current.revision[:SHORT]}"

    async def refresh(self) -> None:
        """Take the newest revision once every block of it has a peer."""
        found = await self._joined.swarm.current_run(self._joined.link)
        if found is not None and found.record.revision != self.current.revision:
            joined = dataclasses.replace(self._joined, found=found)
            if not await missing_blocks(joined, joined.run.revision):
                model = await self.current.successor()  # running sessions may have fetched it
                if model.revision == joined.run.revision:  # else a newer one came meanwhile
                    self._joined, self.current, self.since = joined, model, int(time.time())
                    logger.info("new requests are answered by revision %s", model.revision[:SHORT])
        self.missing_blocks = await missing_blocks(self._joined, self.current.revision)

    def check_name(self, asked: str) -> None:
        """Raises RefusedError unless `asked` names the run, or the run at its current revision."""
        run_id, _, revision = asked.partition("@")
        is_current = self.current.revision.startswith(revision) and (
            not revision or len(revision) >= SHORT
        )
        if run_id != self.run_id or not is_current:
            detail = f"{asked[:80]!r}; {self.run_id!r} is always the newest, {self.name!r} now"
            raise RefusedError(No.MODEL_UNKNOWN, detail, param="model")

    def listing(self) -> list[dict[str, Any]]:
        """The run by its name, which follows its revisions, and by the present one."""
        facts = {
            "object": "model",
            "created": self.since,
            "owned_by": "seshu-swarm",
            "revision": self.current.revision,
        }
        return [{"id": name, **facts} for name in (self.run_id, self.name)]
