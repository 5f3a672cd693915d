"""The scorer: a process that is handed a job's folder, and leaves a result in it.

It opens the base, one held-out file and the job's tensors; it has no key, no ledger and no
network. Its memory ends with it.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import torch

from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.coordinator.blind import results
from seshu_swarm.coordinator.blind.held_out import read_held_out
from seshu_swarm.coordinator.blind.job import RESULT_FILE, Job, Phase, read_job
from seshu_swarm.coordinator.blind.judging import choose, conclude, decide
from seshu_swarm.coordinator.blind.memory import return_large_blocks
from seshu_swarm.coordinator.blind.scoring import HeldOut
from seshu_swarm.coordinator.blind.search import SelectionRule
from seshu_swarm.coordinator.blind.selecting import Selection
from seshu_swarm.coordinator.config import ScoreConfig
from seshu_swarm.evaluate.accept import AcceptRule
from seshu_swarm.packages import write_whole
from seshu_swarm.program.progress import Bar

KILOBYTE = 1024


def run(settings: ScoreConfig) -> int:
    folder = Path(settings.folder)
    job, candidates = read_job(folder)
    torch.set_num_threads(job.num_threads)
    return_large_blocks()
    started = time.monotonic()
    result = carry_out(job, candidates)
    result["scorer_seconds"] = round(time.monotonic() - started, 3)
    result["scorer_peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE
    write_whole(folder / RESULT_FILE, json.dumps(result, allow_nan=False).encode())
    return 0


def carry_out(job: Job, candidates: dict[str, Adapter]) -> results.Json:
    """The result of a job, as JSON values."""
    base, held_out = Path(job.base), read_held_out(Path(job.held_out))
    match job.phase:
        case Phase.CHOOSE:
            return results.selection_json(_choose(job, base, held_out, candidates))
        case Phase.DECIDE:
            word = decide(
                base,
                held_out,
                candidates,
                results.mixture_of_json(job.mixture or {}),
                test_index=job.test_index,
                rule=AcceptRule(**_rule(job)),
            )
            return results.gate_json(word)
        case Phase.CONCLUDE:
            return results.final_json(conclude(base, Path(job.published or ""), held_out))


def _choose(job: Job, base: Path, held_out: HeldOut, candidates: dict[str, Adapter]) -> Selection:
    with Bar("scoring blind") as bar:
        return choose(
            base,
            held_out,
            candidates,
            languages=job.languages,
            rule=SelectionRule(**_rule(job)),
            seed=job.seed,
            report=lambda fraction, text: bar.update(fraction, doing=text),
        )


def _rule(job: Job) -> dict[str, Any]:
    """The fields of a rule as they were: JSON has made lists of tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in job.rule.items()}
