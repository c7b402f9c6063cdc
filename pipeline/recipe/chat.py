"""How a source's records hold conversations, where their keys do not tell."""

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from tokenmill.pipeline.chat.shapes import COLUMNS, Shape
from tokenmill.pipeline.recipe.strict import Strict, unknown_key


class Chat(Strict):
    """The shape of all records, their keys by the names we have for them, and names of roles."""

    shape: Literal["messages", "sharegpt", "alpaca", "prompt_response", "preference", "verifiable"] | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    roles: dict[str, Literal["system", "user", "assistant", "tool"]] = Field(default_factory=dict)

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name not in COLUMNS:
                raise unknown_key(name, COLUMNS)
        for key in value.values():
            if list(value.values()).count(key) > 1:
                raise PydanticCustomError("columns", "column {key} stands twice", {"key": repr(key)})
        return value

    @property
    def told(self) -> Shape:
        """What the reader is told."""
        return Shape(self.shape, self.columns, self.roles)
