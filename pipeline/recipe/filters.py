"""A source's `filters`: entries become signal groups with their parameters and bounds, checked and completed."""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from pydantic import BaseModel, ByteSize, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.dedup.contamination import ContaminationBounds
from tokenmill.dedup.ngram_index import ContaminationParams
from tokenmill.filters.classifier import POSITIVE
from tokenmill.pipeline.groups import GROUPS, Group
from tokenmill.pipeline.recipe.strict import Strict, unknown_key

#: The group that holds documents against benchmarks.
CONTAMINATION = "contamination"


class Percentile(Strict):
    """A bound given as a percentile of the signal over the source's documents; the *thresholds* step makes it exact."""

    percentile: float = Field(ge=0, le=100)


class Filter(BaseModel):
    """One entry of a source's `filters`: a signal group, what it measures with, and its bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    params: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    per_language: bool = False  # with the stop words and bounds of each document's language
    given: tuple[str, ...] = ()  # bounds that the recipe itself gives

    @model_validator(mode="before")
    @classmethod
    def _from_entry(cls, value: Any) -> Any:
        """`gopher_quality: {min_words: 40}` → group, params and bounds, the bounds completed with the defaults."""
        if isinstance(value, str):
            value = {value: {}}
        if not isinstance(value, Mapping) or len(value) != 1:
            raise PydanticCustomError("filter", "a filter is one name and its bounds, such as `gopher_quality: {}`")
        ((name, given),) = value.items()
        if name == "datatrove":
            return _guest(given)
        if name == "classifier":
            return _classifier(given)
        if name == CONTAMINATION:
            return _contamination(given)
        if name not in GROUPS:
            raise unknown_key(str(name), [*GROUPS, "classifier", CONTAMINATION, "datatrove"])
        group = GROUPS[name]
        given = given or {}
        if not isinstance(given, Mapping):
            raise PydanticCustomError("filter", "the bounds of a filter are a mapping, such as `{min_words: 40}`")
        for key in given:
            if key not in group.settings:
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key '{key}' of filter {group}: did you mean '{near}'? known: {known}",
                    {
                        "key": str(key),
                        "group": name,
                        "near": difflib.get_close_matches(str(key), group.settings, n=1, cutoff=0.0)[0],
                        "known": ", ".join(group.settings),
                    },
                )
        return {"group": name, **_split_settings(group, given)}


class _Guest(Strict):
    """A datatrove step by its dotted path, and what it is made with; `name` tells two of one class apart."""

    step: str = Field(pattern=r"^[\w.]*\w$")
    args: dict[str, JsonValue] = Field(default_factory=dict)
    name: str | None = Field(default=None, pattern=r"^\w+$")


def _guest(given: Any) -> dict[str, Any]:
    """`datatrove: {step: a.b.C, args: {…}}` → the group "datatrove.C"; that the step is there `prepare` checks."""
    guest = _Guest.model_validate(given if isinstance(given, Mapping) else {})
    name = guest.name or guest.step.rpartition(".")[2]
    return {"group": f"datatrove.{name}", "params": {"step": guest.step, "args": guest.args}, "bounds": {}}


class _Classifier(Strict):
    """A fastText classifier by path, the label that is scored and its bounds; `name` tells several scores apart."""

    name: str = Field(pattern=r"^\w+$")
    model: str = Field(min_length=1)
    label: str = Field(default=POSITIVE, min_length=1)
    max_bytes: ByteSize | None = Field(default=None, gt=0)
    min_score: JsonValue = None
    max_score: JsonValue = None


def _classifier(given: Any) -> dict[str, Any]:
    """`classifier: {name: edu, model: …}` → the group "classifier.edu"; that the model is one `prepare` checks."""
    entry = _Classifier.model_validate(given if isinstance(given, Mapping) else {})
    bounds = {key: _bound(key, getattr(entry, key)) for key in ("min_score", "max_score")}
    for key, value in bounds.items():
        if isinstance(value, int | float) and not 0 <= value <= 1:
            message = "{key} is {value}, and scores are 0 … 1: give such a number, null (off) or `percentile: P`"
            raise PydanticCustomError("bound", message, {"key": key, "value": repr(getattr(entry, key))})
    max_bytes = None if entry.max_bytes is None else int(entry.max_bytes)
    params = {"model": entry.model, "label": entry.label, "max_bytes": max_bytes}
    return {"group": f"classifier.{entry.name}", "params": params, "bounds": bounds}


class _Contamination(Strict):
    """Benchmarks by name, the columns of their items, what an n-gram is, and the bounds."""

    benchmarks: dict[str, str | tuple[str, ...]] = Field(min_length=1)
    columns: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    ngram: JsonValue = ContaminationParams.ngram
    max_items: JsonValue = ContaminationParams.max_items
    max_hits: JsonValue = None
    max_fraction: JsonValue = None
    max_answer_hits: JsonValue = None

    @model_validator(mode="after")
    def _named(self) -> "_Contamination":
        for name in self.benchmarks:
            if not re.fullmatch(r"[\w.-]+", name):
                message = "a benchmark's name is letters, digits, '_', '-' and '.', not {name}"
                raise PydanticCustomError("benchmarks", message, {"name": repr(name)})
        for name in self.columns:
            if name not in self.benchmarks:
                raise unknown_key(name, list(self.benchmarks))
        return self


def _contamination(given: Any) -> dict[str, Any]:
    """`contamination: {benchmarks: {gsm8k: PATH}}` → its group; that the files hold items `prepare` checks.

    A bound on hits is the default, where the recipe gives no other one.
    """
    entry = _Contamination.model_validate(given if isinstance(given, Mapping) else {})
    names = [field.name for field in fields(ContaminationBounds)]
    explicit = tuple(name for name in names if name in entry.model_fields_set)
    bounds = {name: _bound(name, getattr(entry, name)) for name in names}
    if not explicit:
        bounds["max_hits"] = ContaminationBounds.max_hits
    try:
        ngrams = ContaminationParams(entry.ngram, entry.max_items)  # type: ignore[arg-type]
    except ValueError as error:
        raise PydanticCustomError("filter", "{error}", {"error": str(error)}) from error
    benchmarks, columns = (
        {name: [value] if isinstance(value, str) else list(value) for name, value in sorted(named.items())}
        for named in (entry.benchmarks, entry.columns)
    )
    params = {"benchmarks": benchmarks, "columns": columns, **asdict(ngrams)}
    return {"group": CONTAMINATION, "params": params, "bounds": bounds, "given": explicit}


def _split_settings(group: Group, given: Mapping[str, Any]) -> dict[str, Any]:
    """Params and bounds of a group, checked by its own dataclasses, defaults filled in."""
    per_language = given.get("per_language", False)
    if not isinstance(per_language, bool):
        message = "per_language is true or false, not {value}"
        raise PydanticCustomError("filter", message, {"value": repr(per_language)})
    given = {key: value for key, value in given.items() if key != "per_language"}
    bound_names = [field.name for field in fields(group.bounds)]
    bounds = {field.name: field.default for field in fields(group.bounds)}
    for key in bound_names:
        if key in given:
            bounds[key] = _bound(key, given[key])
    given_params = {key: value for key, value in given.items() if key not in bound_names}
    try:
        params = group.params(**given_params) if group.params else None
    except (TypeError, ValueError) as error:
        raise PydanticCustomError("filter", "{error}", {"error": str(error)}) from error
    settled = {field.name: getattr(params, field.name) for field in fields(group.params)} if group.params else {}
    explicit = tuple(key for key in bound_names if key in given)
    return {"params": settled, "bounds": bounds, "per_language": per_language, "given": explicit}


def _bound(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return Percentile.model_validate(value)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)):
        return value
    raise PydanticCustomError(
        "bound",
        "bound '{key}' is a number, null (off) or `percentile: P`, not {value}",
        {"key": key, "value": repr(value)},
    )
