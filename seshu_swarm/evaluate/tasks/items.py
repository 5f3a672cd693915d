"""A .jsonl file as a task.

    choice      {"question", "choices", "answer": index}; XCOPA adds "relation": cause or effect
    generation  {"question", "answer": text or several}, with "context" where there is one

All may carry "language". What shape a file has is decided by its first item, and all its items must
have it. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seshu_swarm.data.jsonl import read_items, text_at
from seshu_swarm.data.prompts import prompt_for_generation
from seshu_swarm.data.text import nfc
from seshu_swarm.errors import DataError, UsageError

Kind = Literal["choice", "generation"]
# "because" and "so", between a premise and its cause or effect, in the languages of XCOPA and some more.
CONNECTORS: Mapping[str, tuple[str, str]] = {
    "en": ("because", "so"),
    "et": ("sest", "seetõttu"),
    "hi": ("क्योंकि", "इसलिए"),
    "id": ("karena", "maka"),
    "it": ("perché", "quindi"),
    "ta": ("ஏனெனில்", "எனவே"),
    "th": ("เพราะ", "ดังนั้น"),
    "tr": ("çünkü", "bu yüzden"),
    "vi": ("bởi vì", "vì vậy"),
    "zh": ("因为", "所以"),
}
SENTENCE_ENDS = " .。।"


@dataclass(frozen=True)
class Item:
    """`prompt` is what the model reads; `targets` are choices, of which one is `right`, or answers."""

    prompt: str
    targets: tuple[str, ...]
    right: int = 0


@dataclass(frozen=True)
class TaskFile:
    """`name` is the file's, without its ending."""

    name: str
    kind: Kind
    items: tuple[Item, ...]


def task_files(places: Sequence[str]) -> list[Path]:
    """The files, and those in the folders, in order. Raises UsageError for what is neither."""
    files: list[Path] = []
    for place in places:
        path = Path(place).expanduser()
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not found or not all(file.is_file() and file.suffix == ".jsonl" for file in found):
            raise UsageError(
                f"no task at {place!r}",
                rule="a task is a .jsonl file with questions, or a folder of them",
                way_out="give --tasks the path of a file; names of the harness's own tasks need "
                "the network and are not taken",
            )
        files += found
    return files


def read_task(file: Path, *, limit: int | None = None) -> TaskFile:
    """The first `limit` items of a file. Raises DataError."""
    tables = read_items(file, lambda table: table, bad_rows="refuse")[:limit]
    if not tables:
        raise DataError(f"{file} has no items", rule="a task has one or more")
    kind: Kind = "choice" if "choices" in tables[0] else "generation"
    make = _choice if kind == "choice" else _generation
    return TaskFile(file.stem, kind, tuple(_named(file, n, make, t) for n, t in enumerate(tables)))


def _named(file: Path, number: int, make: Any, table: Mapping[str, Any]) -> Item:
    try:
        item: Item = make(table)
    except DataError as error:
        raise DataError(
            f"{file} item {number + 1}: {error.what}",
            rule=error.rule,
            way_out="see docs/evaluation.md for the shapes of tasks",
        ) from None
    return item


def _choice(table: Mapping[str, Any]) -> Item:
    question = nfc(text_at(table, "question"))
    choices, right = table.get("choices"), table.get("answer")
    if not (isinstance(choices, list) and len(choices) > 1 and all(map(_is_text, choices))):
        raise DataError("'choices' is no list of texts", rule="two or more, all with text")
    if type(right) is not int or not 0 <= right < len(choices):
        raise DataError(
            f"'answer' {str(right)[:40]!r}", rule=f"an index from 0 to {len(choices) - 1}"
        )
    return Item(_asked(table, question), tuple(f" {nfc(choice)}" for choice in choices), right)


def _asked(table: Mapping[str, Any], question: str) -> str:
    """A premise with its connector, or the prompt of training without its last space."""
    if "relation" not in table:
        return prompt_for_generation(question).rstrip(" ")
    relation, language = table["relation"], str(table.get("language", ""))
    if relation not in ("cause", "effect") or language not in CONNECTORS:
        raise DataError(
            f"'relation' {str(relation)[:40]!r} in language {language[:10]!r}",
            rule=f"cause or effect, in one of {', '.join(CONNECTORS)}",
        )
    because, so = CONNECTORS[language]
    return f"{question.rstrip(SENTENCE_ENDS)} {because if relation == 'cause' else so}"


def _generation(table: Mapping[str, Any]) -> Item:
    question = nfc(text_at(table, "question"))
    context = nfc(text_at(table, "context")) if "context" in table else ""
    answers = table.get("answer")
    answers = answers if isinstance(answers, list) else [answers]
    if not answers or not all(map(_is_text, answers)):
        raise DataError("'answer' is no text", rule="a text, or a list of texts")
    return Item(prompt_for_generation(question, context), tuple(nfc(one) for one in answers))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
