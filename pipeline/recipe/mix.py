"""The recipe of a mix: how many tokens of which sources of several runs, by budgets or by weights, in stages."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.manifests.wanted import Wanted, WantedStage
from tokenmill.pipeline.recipe.strict import Strict

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_NUMBER = re.compile(r"(?P<digits>[0-9][0-9_]*(\.[0-9]+)?(e[0-9]+)?)\s*(?P<unit>[KMBTkmbt]?)")


def number_of_tokens(value: Any) -> int:
    """6.5T, 25B, 300M or a plain number, exactly.

    Raises:
        PydanticCustomError: it is no such number, or not a whole one.
    """
    match = None if isinstance(value, bool) else _NUMBER.fullmatch(str(value).strip())
    tokens = Fraction(match["digits"]) * _UNITS[match["unit"].upper()] if match else Fraction(1, 2)
    if tokens.denominator != 1:
        raise PydanticCustomError(
            "tokens",
            "{value} is no number of tokens: write one such as 6.5T, 25B, 300M or 8192",
            {"value": repr(value)},
        )
    return int(tokens)


Tokens = Annotated[int, BeforeValidator(number_of_tokens)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Epochs = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MixSource(Strict):
    """What is wanted of a source: a budget or a weight. A size such as 6.5T alone is a budget, a number a weight.

    Attributes:
        tokens: that are taken of it, all epochs together.
        weight: its share of what the stage's budgets leave of its `tokens`, relative to the other weights; 0: none.
        max_epochs: how often it may be visited, over all stages; the last visit may be partial.
        strata: how much a token counts for within the source, by parts of its stratum's name, such as `en` or
            `copies=10+`; of several that hold, their product. 0: such a stratum is left out.
    """

    tokens: Tokens | None = None
    weight: Weight | None = None
    max_epochs: Epochs | None = None
    strata: dict[str, Weight] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"tokens": value}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"weight": value}
        return value

    @model_validator(mode="after")
    def _one_of(self) -> "MixSource":
        if (self.tokens is None) == (self.weight is None):
            raise PydanticCustomError("mix", "give either `tokens` (a budget, such as 6.5T) or `weight`, one of them")
        return self

    def wanted(self, max_epochs: float) -> Wanted:
        """In exact numbers; `max_epochs` is the recipe's."""
        return Wanted(
            tokens=self.tokens,
            weight=None if self.weight is None else Fraction(repr(self.weight)),
            max_epochs=Fraction(repr(self.max_epochs or max_epochs)),
            strata={name: Fraction(repr(weight)) for name, weight in self.strata.items()},
        )


class MixStage(Strict):
    """A stage: its sources, and how many tokens it has; of budgets alone that is their sum."""

    sources: dict[str, MixSource] = Field(min_length=1)
    tokens: Tokens | None = Field(default=None, gt=0)


class MixRecipe(Strict):
    """The whole recipe of a mix: one stage, or `stages`.

    Attributes:
        validation: whether it has the rows that the runs hold out.
        max_epochs: of sources that do not say their own.
        batch_size: rows of a global batch, all ranks together: stages have whole ones.
    """

    name: str
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    validation: bool = True
    max_epochs: Epochs = 1.0
    batch_size: int | None = Field(default=None, ge=1)
    tokens: Tokens | None = Field(default=None, gt=0)
    sources: dict[str, MixSource] = Field(default_factory=dict)
    stages: tuple[MixStage, ...] = ()

    @model_validator(mode="after")
    def _one_of(self) -> "MixRecipe":
        if bool(self.sources) == bool(self.stages):
            raise PydanticCustomError("mix", "give either `sources`, or `stages` with sources each, one of them")
        if self.stages and self.tokens is not None:
            raise PydanticCustomError("mix", "`tokens` is of one stage: give each of the `stages` its own")
        if len(self.stages) > 1 and self.batch_size is None:
            raise PydanticCustomError(
                "mix", "stages begin on a global batch: give `batch_size`, its rows, all ranks together"
            )
        return self

    @property
    def listed(self) -> tuple[MixStage, ...]:
        """The stages; one where the recipe has none."""
        return self.stages or (MixStage(sources=self.sources, tokens=self.tokens),)

    @property
    def wanted(self) -> list[WantedStage]:
        """What each stage wants, in exact numbers."""
        return [
            WantedStage(
                {name: source.wanted(self.max_epochs) for name, source in stage.sources.items()},
                stage.tokens,
                self.batch_size or 1,
            )
            for stage in self.listed
        ]

    def plain(self) -> Mapping[str, Any]:
        """What it asks for, in plain values: without what it leaves to the defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)
