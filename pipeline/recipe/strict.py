"""What all models of the recipe share: they are frozen, and refuse a key they do not know."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Fraction = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Frozen; refuses a key it does not know and names the nearest one it does."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            for key in value:
                if key not in cls.model_fields:
                    raise unknown_key(str(key), cls.model_fields)
        return value


def unknown_key(key: str, known: Any) -> PydanticCustomError:
    """The error that names the nearest key there is."""
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.0)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return PydanticCustomError(
        "unknown_key",
        "unknown key '{key}': {hint}known: {known}",
        {"key": key, "hint": hint, "known": ", ".join(known)},
    )
