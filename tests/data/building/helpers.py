"""Rows, files and recipes for the tests of building."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seshu_swarm.data import phrasebook
from seshu_swarm.data.building.recipe import Recipe

BOOKS = "books.json"


def _word(rng: random.Random) -> str:
    letters = "कखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह"
    signs = ["", "ा", "ि", "ी", "ु", "े", "ो", "ं"]
    return "".join(rng.choice(letters) + rng.choice(signs) for _ in range(rng.randrange(2, 5)))


WORDS = [_word(random.Random(k)) for k in range(3_000)]


def sentence(rng: random.Random, num_words: int = 12) -> str:
    """Hindi-looking text of random words: no two sentences are alike but by chance."""
    return " ".join(rng.choices(WORDS, k=num_words)) + "।"


def document(rng: random.Random, num_sentences: int = 8) -> str:
    return "\n".join(sentence(rng) for _ in range(num_sentences))


def phrases(language: str, count: int) -> list[str]:
    built = phrasebook.build([language], 7, documents_per_language=count)
    return [found.text for found in built.documents[language]]


def write_jsonl(path: Path, tables: Iterable[Mapping[str, Any]]) -> Path:
    lines = [json.dumps(table, ensure_ascii=False) + "\n" for table in tables]
    path.write_text("".join(lines), encoding="utf-8", newline="")
    return path


def write_recipe(folder: Path, text: str, *, languages: str = '["hi"]') -> Path:
    path = folder / "recipe.toml"
    path.write_text(f"languages = {languages}\n{text}\n", encoding="utf-8")
    return path


def source(path: str, kind: str = "jsonl", *, more: str = 'language = "hi"') -> str:
    return f'[[sources]]\nname = "own"\nkind = "{kind}"\npath = "{path}"\nlicence = "CC0-1.0"\n{more}\n'


def recipe_of(**tables: Any) -> Recipe:
    """A recipe with one source that no test reads."""
    table = {"name": "own", "kind": "jsonl", "path": "x", "language": "hi", "licence": "CC0-1.0"}
    return Recipe.model_validate_json(
        json.dumps({"languages": ["hi"], "sources": [table], **tables})
    )


def books_of(out: Path) -> dict[str, Any]:
    books: dict[str, Any] = json.loads((out / BOOKS).read_bytes())
    return books
