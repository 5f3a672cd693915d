"""Records that tests announce."""

from __future__ import annotations

from typing import Any

from seshu_swarm.network.identity import Identity
from seshu_swarm.records.kinds import ProviderRecord, RunRecord, SpanRecord
from tests.loopback import RUN_ID

DIGEST, OTHER = "ab" * 32, "cd" * 32


def provider_record(digest: str = DIGEST, **fields: Any) -> ProviderRecord:
    return ProviderRecord(**({"run_id": RUN_ID, "digest": digest} | fields))


def span_record(start: int, end: int, revision: str = DIGEST, **fields: Any) -> SpanRecord:
    facts: dict[str, Any] = {
        "run_id": RUN_ID,
        "start": start,
        "end": end,
        "revisions": (revision,),
        "step_seconds": 0.01,
        "num_sessions": 0,
        "is_draining": False,
    }
    return SpanRecord(**(facts | fields))


def run_record(owner: Identity, **fields: Any) -> RunRecord:
    facts: dict[str, Any] = {
        "run_id": RUN_ID,
        "coordinator": owner.fingerprint,
        "revision": DIGEST,
        "num_blocks": 4,
        "d_model": 32,
        "num_parameters": 1,
        "languages": ("hi",),
        "lora_max_rank": 8,
        "catalogue": None,
        "round_index": 0,
        "round_state": "open",
        "round_closes_at": 0.0,
        "licence": "CC0-1.0",
    }
    return RunRecord(**(facts | fields))
