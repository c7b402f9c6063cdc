"""What differs between two versions besides their documents: recipes, templates, tokens by stratum and by role."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tokenmill.manifests.audit import ROLE_NOTES, strata_tokens
from tokenmill.pipeline.diff import Side

#: What stands for a key that one of two recipes does not have.
ABSENT = "(absent)"


def recipe_differences(before: str, after: str) -> list[tuple[str, Any, Any]]:
    """Keys of two recipes (YAML) that differ, with both values; sources and filters are told by their names."""
    return _differences(*(dict(_flat("", yaml.safe_load(text))) for text in (before, after)))


def _differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    both = [(key, one.get(key, ABSENT), two.get(key, ABSENT)) for key in {**one, **two}]
    return [(key, a, b) for key, a, b in both if a != b]


def template_differences(before: Side, after: Side) -> list[tuple[str, Any, Any]]:
    """What differs between the chat templates: "source", "special_tokens", "variables" or "date", with both values."""
    return _differences(*map(_template, (before, after)))


def _template(side: Side) -> dict[str, Any]:
    """The chat template of a version; nothing where its documents are no conversations."""
    path = side.published.value.get("template")
    return {} if path is None else dict(json.loads(side.storage.read(path)))


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key.rpartition(".")[2] in ("sources", "filters") and isinstance(value, list):
        named = [_named(entry) for entry in value]
        yield f"{key} (order)", [name for name, _ in named]
        value = dict(named)
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}" if key else str(name), inner)
    else:
        yield key, value


def _named(entry: Any) -> tuple[str, Any]:
    """An entry of a list of sources or filters: its name, and what is said of it."""
    if not isinstance(entry, dict):
        return str(entry), {}
    return (str(entry["name"]), entry) if "name" in entry else (str(next(iter(entry))), next(iter(entry.values())))


def tokens_of(before: Side, after: Side) -> list[tuple[str, int, int]]:
    """Tokens of each component ("source/stratum") in both."""
    one, two = (strata_tokens(side.units.receipts) for side in (before, after))
    return [
        (name, *(found.get(name, {"tokens": 0})["tokens"] for found in (one, two)))  # type: ignore[misc]
        for name in sorted({*one, *two})
    ]


def roles_of(before: Side, after: Side) -> list[tuple[str, str, int, int]]:
    """Of conversations: source, role ("answer" and "answer_eos" too) and its tokens in both."""
    one, two = (
        {
            (source, name): sheet["roles"][name]
            for source, sheet in side.published.value["balance"].items()
            for name in ROLE_NOTES
            if sheet.get("roles")
        }
        for side in (before, after)
    )
    order = sorted({*one, *two}, key=lambda key: (key[0], ROLE_NOTES.index(key[1])))
    return [(key[0], key[1].removesuffix("_tokens"), one.get(key, 0), two.get(key, 0)) for key in order]
