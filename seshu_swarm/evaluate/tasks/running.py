"""Task files to scores, by lm-evaluation-harness. Needs the extra `evaluation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate

from seshu_swarm.evaluate.models.base import ScoredModel
from seshu_swarm.evaluate.models.scoring import Cut
from seshu_swarm.evaluate.tasks.answers import exact_match, f1
from seshu_swarm.evaluate.tasks.harness import HarnessModel
from seshu_swarm.evaluate.tasks.items import Item, TaskFile, read_task, task_files

STOP_TEXTS = ("\n\n", "\nQ:")
MAX_NEW_TOKENS = 192
SPLIT = "test"

Scores = Mapping[str, Mapping[str, float]]
"""Task → metric → value, with the metric's standard error under "METRIC stderr"."""


def run_files(
    model: ScoredModel, places: Sequence[str], *, cut: Cut | None = None, limit: int | None = None
) -> Scores:
    """Raises UsageError and DataError for what is no task."""
    tasks = [read_task(file, limit=limit) for file in task_files(places)]
    return run_tasks(HarnessModel(model, cut), tasks)


def run_tasks(lm: Any, tasks: Sequence[TaskFile]) -> Scores:
    """`lm` is an LM of the harness, ours or another."""
    by_name = {task.name: FileTask(task) for task in tasks}
    found = evaluate(lm, by_name, log_samples=False, verbosity="ERROR")
    results: Mapping[str, Mapping[str, Any]] = found["results"]
    return {
        task.name: {"items": float(len(task.items)), **_metrics(results[task.name])}
        for task in tasks
    }


class FileTask(ConfigurableTask):
    """A file as a task of the harness; its data set is in memory."""

    def __init__(self, task: TaskFile) -> None:
        self._items = task.items
        common = {
            "task": task.name,
            "test_split": SPLIT,
            "doc_to_text": lambda row: row["prompt"],
            "num_fewshot": 0,
        }
        special = _choice_settings() if task.kind == "choice" else _generation_settings()
        super().__init__(config={**common, **special})

    def download(self, dataset_kwargs: Any = None, **options: Any) -> None:
        """What the harness calls to have its data set."""
        rows = [
            {"prompt": item.prompt, "targets": list(item.targets), "right": item.right}
            for item in self._items
        ]
        self.dataset = {SPLIT: Dataset.from_list(rows)}


def _choice_settings() -> dict[str, Any]:
    return {
        "output_type": "multiple_choice",
        "doc_to_choice": lambda row: row["targets"],
        "doc_to_target": lambda row: row["right"],
        "target_delimiter": "",  # choices begin with their space
        "metric_list": [_mean("acc"), _mean("acc_norm")],
    }


def _generation_settings() -> dict[str, Any]:
    return {
        "output_type": "generate_until",
        "doc_to_target": lambda row: row["targets"][0],
        "generation_kwargs": {"until": list(STOP_TEXTS), "max_gen_toks": MAX_NEW_TOKENS},
        "process_results": judged,
        "metric_list": [_mean("exact_match"), _mean("f1")],
    }


def judged(row: Mapping[str, Any], generated: Sequence[str]) -> dict[str, float]:
    """Both measures of one answer."""
    item = Item(row["prompt"], tuple(row["targets"]))
    return {
        "exact_match": exact_match(generated[0], item.targets),
        "f1": f1(generated[0], item.targets),
    }


def _mean(metric: str) -> dict[str, Any]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}


def _metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """The harness's names ("acc,none", "acc_stderr,none") in words."""
    return {
        key.partition(",")[0].replace("_stderr", " stderr"): float(value)
        for key, value in results.items()
        if isinstance(value, int | float) and "," in key
    }
