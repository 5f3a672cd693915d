"""A scoring job: what the scorer is handed, in a folder that holds nothing else.

    job.json                   the phase, the rule, the seed, random ids with languages and scales
    RANDOM-ID.safetensors      A and B of one candidate
    result.json                what the scorer leaves

No name of a donor, no digest, no order of arrival: the base checkpoint, one held-out file and
tensors. The folder is made afresh for every job.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import safetensors.torch

from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.packages import write_whole

JOB_FILE, RESULT_FILE = "job.json", "result.json"


class Phase(StrEnum):
    CHOOSE = "choose"
    DECIDE = "decide"
    CONCLUDE = "conclude"


@dataclass(frozen=True, kw_only=True)
class Job:
    """`base` and `published` are checkpoint folders, `held_out` is a file.

    `languages` maps random ids to declared languages; `rule` holds the fields of the phase's rule,
    `mixture` what is decided upon. `num_threads` are torch's.
    """

    phase: Phase
    base: str
    held_out: str
    num_threads: int
    seed: int = 0
    test_index: int = 1
    published: str | None = None
    mixture: Mapping[str, Any] | None = None
    rule: Mapping[str, Any] = field(default_factory=dict)
    languages: Mapping[str, str] = field(default_factory=dict)


def write_job(folder: Path, job: Job, candidates: Mapping[str, Adapter]) -> None:
    """Raises DiskFullError, ResourceError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    for random_id, adapter in candidates.items():
        tensors = {}
        for module, (A, B) in adapter.pairs.items():
            tensors[f"{module}.A"], tensors[f"{module}.B"] = A.contiguous(), B.contiguous()
        write_whole(folder / f"{random_id}.safetensors", safetensors.torch.save(tensors))
    facts = {name: {"rank": a.rank, "scale": a.scale} for name, a in candidates.items()}
    text = json.dumps(asdict(job) | {"candidates": facts}, sort_keys=True)
    write_whole(folder / JOB_FILE, text.encode())


def read_job(folder: Path) -> tuple[Job, dict[str, Adapter]]:
    """What `write_job` wrote: the job, and its candidates without digest or facts."""
    table = json.loads((folder / JOB_FILE).read_bytes())
    facts = table.pop("candidates")
    job = Job(**table | {"phase": Phase(table["phase"])})
    return job, {name: _candidate(folder, name, **found) for name, found in facts.items()}


def _candidate(folder: Path, name: str, *, rank: int, scale: float) -> Adapter:
    tensors = safetensors.torch.load_file(folder / f"{name}.safetensors")
    modules = sorted({key.rpartition(".")[0] for key in tensors})
    pairs = {module: (tensors[f"{module}.A"], tensors[f"{module}.B"]) for module in modules}
    return Adapter(name, rank, scale, pairs)
