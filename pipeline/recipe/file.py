"""A recipe's YAML: read, expanded, checked before any work, every mistake named with its line.

An unknown key is refused with the nearest known one. Environment variables may stand in strings as `${NAME}` or
`${NAME:-default}`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tokenmill.pipeline.recipe import Recipe

Tree = TypeVar("Tree", bound=BaseModel)
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class RecipeError(ValueError):
    """The recipe asks for something that can't be; the message names the file, the line and the key."""


@dataclass(frozen=True)
class RecipeFile:
    """A recipe and the text it was read from, so that later checks can name the line as well.

    Attributes:
        recipe: the checked tree.
        text: the YAML, as written.
        where: the file's name.
    """

    recipe: Recipe
    text: str
    where: str

    def error(self, location: Sequence[str | int], message: str) -> RecipeError:
        """An error about one key, with its file and line."""
        line, key = _find(yaml.compose(self.text, Loader=yaml.SafeLoader), list(location))
        return RecipeError(f"{self.where}:{line}: {key}: {message}")


def load_recipe(text: str, where: str, environment: Mapping[str, str] | None = None) -> RecipeFile:
    """Parse and check a recipe.

    Args:
        text: the YAML.
        where: the file's name, for messages.
        environment: for `${NAME:-default}`; the process's own by default.

    Raises:
        RecipeError: with every mistake found, each on a line of its own: file, line, key, what to do.
    """
    return RecipeFile(load_tree(Recipe, text, where, environment), text, where)


def load_tree(model: type[Tree], text: str, where: str, environment: Mapping[str, str] | None = None) -> Tree:
    """As `load_recipe`, of another kind of recipe: `model` is its tree."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not YAML: {error}") from error
    if not isinstance(tree, dict):
        keys = ", ".join(f"`{name}`" for name, field in model.model_fields.items() if field.is_required())
        raise RecipeError(f"{where}: a recipe is a mapping with {keys}")
    expanded = _expand(tree, os.environ if environment is None else environment, where)
    try:
        return model.model_validate(expanded)
    except ValidationError as error:
        lines = [_describe(item, node, where) for item in error.errors()]
        raise RecipeError("\n".join(lines)) from None


def _describe(error: Any, node: yaml.Node | None, where: str) -> str:
    location = list(error["loc"])
    if error["type"] == "unknown_key":
        location.append(error["ctx"]["key"])
    message = error["msg"]
    if error["type"] == "missing":
        message = "this key is needed and is not there"
    line, key = _find(node, location)
    return f"{where}:{line}: {key or 'recipe'}: {message}"


def _find(node: yaml.Node | None, location: list[Any]) -> tuple[int, str]:
    """Line (from 1) of the deepest node on the way to `location`, and the key's dotted name."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            match = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if match is None and len(node.value) == 1:  # a filter entry: {group: {…}}
                match = next((pair for pair in getattr(node.value[0][1], "value", []) if _is_key(pair, part)), None)
            if match is None:
                break
            line, node = match[0].start_mark.line + 1, match[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    return line, dotted


def _is_key(pair: Any, part: Any) -> bool:
    return isinstance(pair, tuple) and pair[0].value == str(part)


def _expand(value: Any, environment: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, environment, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, environment, where) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = environment.get(match["name"]) or match["default"]
        if found is None:
            raise RecipeError(
                f"{where}: ${{{match['name']}}} is not set: export {match['name']}=… or write "
                f"${{{match['name']}:-default}}"
            )
        return found

    return _VARIABLE.sub(replace, value)
