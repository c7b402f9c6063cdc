"""A source's `filters`: entries become signal groups with their parameters and bounds, checked and completed."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import BaseModel, ByteSize, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.filters.classifier import POSITIVE
from tokenmill.pipeline.groups import GROUPS, Group
from tokenmill.pipeline.recipe.strict import Strict, unknown_key


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
        if name not in GROUPS:
            raise unknown_key(str(name), [*GROUPS, "classifier", "datatrove"])
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
        if isinstance(value, tuple) or (isinstance(value, int | float) and not 0 <= value <= 1):
            message = "{key} is {value}, and scores are 0 … 1: give such a number, null (off) or `percentile: P`"
            raise PydanticCustomError("bound", message, {"key": key, "value": repr(getattr(entry, key))})
    max_bytes = None if entry.max_bytes is None else int(entry.max_bytes)
    params = {"model": entry.model, "label": entry.label, "max_bytes": max_bytes}
    return {"group": f"classifier.{entry.name}", "params": params, "bounds": bounds}


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
    if isinstance(value, list):
        return tuple(str(item) for item in value)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise PydanticCustomError(
        "bound",
        "bound '{key}' is a number, null (off) or `percentile: P`, not {value}",
        {"key": key, "value": repr(value)},
    )
