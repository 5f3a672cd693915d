"""A recipe: which sources, what is kept of them, and how they are mixed; a strict TOML file.

Paths are relative to the recipe's folder. Every key has a default but the sources. A misspelt key,
a wrong type or an impossible value is a UsageError that names the key. Knows no rows.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from seshu_swarm.data.hub_rows import SAMANANTAR, licence_of
from seshu_swarm.data.text import LANGUAGE
from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import read_toml

Kind = Literal["jsonl", "text", "csv", "parquet", "hub", "samanantar", "phrasebook"]
Share = Annotated[float, Field(ge=0, le=1)]
Language = Annotated[str, Field(pattern=f"^{LANGUAGE.pattern}$")]
PHRASEBOOK_LICENCE = "Unicode-3.0"


class Table(BaseModel):
    """A table of the recipe: no unknown keys, no conversions of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Source(Table):
    """One source. `language` is that of all its rows, unless `language_column` names a column."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    kind: Kind
    path: str = ""
    language: Language | None = None
    language_column: str | None = None
    text: str = "text"
    records: Literal["lines", "paragraphs"] = "paragraphs"
    licence: str = ""
    epochs: Annotated[float, Field(gt=0, le=100)] = 1.0
    split: str = "train"
    subset: str = ""
    max_rows: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _known(cls, table: Any) -> Any:
        """What is known of a kind by its name: Samanantar's columns and licence, CLDR's licence."""
        if not isinstance(table, dict):
            return table
        if table.get("kind") == "samanantar":
            return {"path": SAMANANTAR, "text": "tgt", **table}
        if table.get("kind") == "phrasebook":
            return {"licence": PHRASEBOOK_LICENCE, **table}
        return table

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind != "phrasebook" and not self.path:
            raise ValueError(f"source {self.name!r} has no path")
        if not self.terms:
            raise ValueError(
                f"source {self.name!r} has no licence; name it, or say 'unknown' in its place"
            )
        if self.kind not in ("phrasebook", "samanantar") and not (
            self.language or self.language_column
        ):
            raise ValueError(f"source {self.name!r} has neither language nor language_column")
        if self.max_rows is not None and self.kind not in ("hub", "samanantar"):
            raise ValueError(f"source {self.name!r}: max_rows is for data sets of the Hub")
        return self

    @property
    def terms(self) -> str:
        """The licence that is stated, or the one that is known of a Hub data set."""
        return self.licence or licence_of(self.path) or ""


class Filters(Table):
    """What a text must be like. Shares are from 0 to 1; those of repetition need enough text."""

    min_bytes: Annotated[int, Field(ge=1)] = 32
    max_bytes: Annotated[int, Field(ge=1)] = 8 << 20
    min_words: Annotated[int, Field(ge=0)] = 2
    min_script_share: Share = 0.5
    max_digit_share: Share = 0.4
    max_symbol_share: Share = 0.3
    max_mean_word_letters: Annotated[float, Field(gt=0)] = 24.0
    max_repeated_sentence_share: Share = 0.5
    max_repeated_run_share: Share = 0.5
    max_top_word_share: Share = 0.4


class Words(Table):
    """Files of words and phrases, one a line. A text with a refusal is left out; bad words are
    counted, and leave a text out only beyond `max_bad_word_share` of its words."""

    refusals: tuple[str, ...] = ()
    bad_words: tuple[str, ...] = ()
    max_bad_word_share: Share = 1.0


class Duplicates(Table):
    exact: bool = True
    near: bool = True
    similarity: Annotated[float, Field(ge=0.5, le=1)] = 0.8


class Mixture(Table):
    """A language with n bytes is taken as often as gives it a share of n^(1/temperature): small
    ones more than once, at most `max_epochs` times. `total_bytes` scales all of them."""

    temperature: Annotated[float, Field(ge=1, le=100)] = 1.0
    max_epochs: Annotated[float, Field(ge=1, le=100)] = 4.0
    total_bytes: Annotated[int, Field(ge=1)] | None = None


class Packing(Table):
    shard_bytes: Annotated[int, Field(ge=1 << 10, le=32 << 20)] = 1 << 20


class Recipe(Table):
    languages: Annotated[tuple[Language, ...], Field(min_length=1)]
    seed: int = 0
    max_line_bytes: Annotated[int, Field(ge=1 << 10, le=64 << 20)] = 8 << 20
    holdouts: tuple[str, ...] = ()
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    filters: Filters = Filters()
    words: Words = Words()
    duplicates: Duplicates = Duplicates()
    mixture: Mixture = Mixture()
    packing: Packing = Packing()

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are called {twice[0]!r}")
        for source in self.sources:
            if source.language and source.language not in self.languages:
                raise ValueError(
                    f"source {source.name!r} is in {source.language!r}, "
                    f"and languages are {', '.join(self.languages)}"
                )
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of everything the recipe says, defaults included; not of what its files hold."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def read_recipe(path: Path) -> Recipe:
    """Raises UsageError naming the file, the key and what was meant."""
    way_out = "give the path of a TOML file as in docs/data.md"
    table = read_toml(path, what="the recipe", way_out=way_out)
    try:
        # Through JSON: strict models take TOML's arrays as tuples only in that form.
        return Recipe.model_validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        raise _usage_error(path, error) from None


def _usage_error(path: Path, error: ValidationError) -> UsageError:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "recipe"
    if first["type"] != "extra_forbidden":
        return UsageError(f"{path}: {place}: {first['msg']}", way_out="see docs/data.md")
    *above, key = first["loc"]
    near = difflib.get_close_matches(str(key), _table_at(above).model_fields, n=1)
    return UsageError(
        f"{path}: unknown key {place!r}",
        rule="every key must be one of the recipe's",
        way_out=f"did you mean {near[0]!r}?" if near else "see docs/data.md",
    )


def _table_at(place: list[str | int]) -> type[Table]:
    """The model of the table at a place such as ["sources", 0]."""
    table: type[Table] = Recipe
    for name in place:
        if isinstance(name, str):
            hint = table.model_fields[name].annotation
            table = next(kind for kind in (hint, *get_args(hint)) if _is_table(kind))
    return table


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Table)
