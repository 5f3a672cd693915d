"""`python -m seshu_swarm evaluate`: scores of a model, beside others and beside floors."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console

from seshu_swarm.data.jsonl import BadRows
from seshu_swarm.errors import UsageError
from seshu_swarm.evaluate.config import ANSWERS, EvaluateConfig
from seshu_swarm.evaluate.evaluation import Evaluation, floor_column, model_column, named_apart
from seshu_swarm.evaluate.models.base import ScoredModel
from seshu_swarm.evaluate.models.opening import open_model
from seshu_swarm.evaluate.models.ours import OurModel
from seshu_swarm.evaluate.models.scoring import Cut
from seshu_swarm.evaluate.proving.proving import decode_file, prove
from seshu_swarm.evaluate.showing.numbers import results_of, rows_of
from seshu_swarm.evaluate.showing.picture import draw
from seshu_swarm.evaluate.showing.table import tables_of, tasks_table
from seshu_swarm.evaluate.tasks.items import task_files
from seshu_swarm.evaluate.texts import Texts, read_texts
from seshu_swarm.packages import write_whole
from seshu_swarm.program import log
from seshu_swarm.program.reports import check_place, write_report

if TYPE_CHECKING:
    from seshu_swarm.evaluate.tasks.running import Scores

logger = logging.getLogger(__name__)


def run(settings: EvaluateConfig) -> int:
    """Raises UsageError, DataError, PackageError, MismatchError, and what reading and writing raise."""
    if settings.decode:
        return _decode(settings, Path(settings.decode))
    check(settings)
    return run_models(settings, [open_model(p) for p in (settings.model, *settings.against)])


def run_models(settings: EvaluateConfig, models: Sequence[ScoredModel]) -> int:
    """The same for models that are open; the others are held against the first."""
    names = named_apart([model.name for model in models])
    results: dict[str, float] = {}
    parts: dict[str, Any] = {"rows": []}
    if settings.data:
        _score(settings, models, names, results, parts)
    if settings.tasks:
        parts["tasks"] = _tasks(settings, models, names)
    log.fact("evaluated", **results, tasks=parts.get("tasks", {}))
    if settings.report:
        write_report(
            Path(settings.report), command="evaluate", settings=settings, results=results, **parts
        )
    return 0


def check(settings: EvaluateConfig) -> None:
    """Before models are loaded: where files go, and what tasks need. Raises UsageError."""
    for place in (settings.report, settings.plot, settings.proof if settings.prove else None):
        if place:
            check_place(Path(place))
    if settings.tasks:
        task_files(settings.tasks)
        if importlib.util.find_spec("lm_eval") is None:
            raise UsageError(
                "--tasks without lm-evaluation-harness",
                rule="tasks are run by it",
                way_out="pip install 'seshu-swarm[evaluation]'",
            )


def _score(
    settings: EvaluateConfig,
    models: Sequence[ScoredModel],
    names: Sequence[str],
    results: dict[str, float],
    parts: dict[str, Any],
) -> None:
    """Bits per byte, the picture and the proof; adds to `results` and `parts`."""
    first = steppable(models[0]) if settings.prove else None
    evaluation = evaluate(settings, models, names)
    results |= results_of(evaluation)
    parts |= {"rows": rows_of(evaluation), "lossy": dict(evaluation.lossy)}
    if log.is_text():
        Console().print(tables_of(evaluation, about=_about(settings)))
    if settings.plot:
        title = f"{names[0]} on {Path(settings.data or '').name}"
        write_whole(Path(settings.plot), draw(evaluation, num_models=len(models), title=title))
    if first:
        results |= _prove(settings, first, evaluation)


def evaluate(
    settings: EvaluateConfig, models: Sequence[ScoredModel], names: Sequence[str]
) -> Evaluation:
    """Score the models and the floors."""
    texts = _texts(settings.data, settings)
    train = _texts(settings.train, settings, all_bytes=True) if settings.train else {}
    columns, lossy = [], {}
    for model, name in zip(models, names, strict=True):
        column, count = model_column(model, texts, cut=_cut(settings), on_column=_tell)
        columns.append(column.named(name))
        if count:
            lossy[name] = count
            logger.warning("%s cannot give back %d texts: its scores are too good", name, count)
    columns += [
        floor_column(floor, texts, train, ngram=settings.ngram, on_column=_tell)
        for floor in settings.chosen_floors
    ]
    return Evaluation(texts, columns, lossy)


def steppable(model: ScoredModel) -> OurModel:
    """The model, if it can be walked token by token. Raises UsageError."""
    if not isinstance(model, OurModel):
        raise UsageError(
            f"--prove with {model.name}",
            rule="a proof is stepped through by this package's engine",
            way_out="prove a checkpoint of the Mamba layout, from its folder",
        )
    return model


def _prove(settings: EvaluateConfig, model: OurModel, evaluation: Evaluation) -> dict[str, float]:
    proof = prove(
        model,
        settings.model,
        evaluation.texts,
        text_bits=sum(evaluation.columns[0].bits.values()),
        cut=_cut(settings),
        file=Path(settings.proof),
    )
    log.event("proven", f"{settings.proof}: {proof}")
    return {
        "proof_file_bytes": float(proof.file_bytes),
        "proof_coded_bytes": float(proof.coded_bytes),
        "proof_relative_error": proof.relative_error,
        "proof_file_relative_error": proof.file_error,
    }


def _tasks(
    settings: EvaluateConfig, models: Sequence[ScoredModel], names: Sequence[str]
) -> Mapping[str, Scores]:
    from seshu_swarm.evaluate.tasks.running import run_files

    found = {}
    for model, name in zip(models, names, strict=True):
        _tell(name, "tasks")
        found[name] = run_files(model, settings.tasks, cut=_cut(settings), limit=settings.limit)
    if log.is_text():
        Console().print(tasks_table(found))
    return found


def _decode(settings: EvaluateConfig, file: Path) -> int:
    count = decode_file(steppable(open_model(settings.model)), file, Path(settings.out))
    log.event("decoded", f"{count} texts of {file} are in {settings.out}", texts=count)
    return 0


def _cut(settings: EvaluateConfig) -> Cut:
    return Cut(settings.window_tokens, settings.context_tokens)


def _texts(place: str | None, settings: EvaluateConfig, *, all_bytes: bool = False) -> Texts:
    if place is None:
        raise UsageError("no held-out text", way_out="give --data FOLDER or --data FILE.jsonl")
    return read_texts(
        Path(place).expanduser(),
        languages=settings.languages,
        answers=settings.score == ANSWERS,
        max_bytes=None if all_bytes else settings.max_bytes,
        bad_rows=cast(BadRows, settings.bad_rows),
    )


def _tell(name: str, language: str) -> None:
    logger.info("scoring %s in %s", name, language)


def _about(settings: EvaluateConfig) -> str:
    if not settings.chosen_floors:
        return "native UTF-8 bytes in NFC"
    floors = "floors have read the training text first" if settings.train else "floors start empty"
    return f"native UTF-8 bytes in NFC; {floors}, and go on learning from what they have read"
